"""Draw pictures like photographs of playing cards on a table, as a COCO-format folder.

    python benchmarks/playing_cards.py FOLDER [--train 296] [--val 67]
    python tools/train_folder.py FOLDER --hours 1

Six classes (nine, ten, jack, queen, king, ace), one to four cards of any suit on a picture of
960×540, turned, in perspective, partly covered, on one of many cloths, lit from one side, blurred
and noisy as from a telephone. The ranks differ by letter and pips alone, as on real cards: what a
detector has to see is small. Needs no data; the fonts are matplotlib's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

RANKS = dict(nine="9", ten="10", jack="J", queen="Q", king="K", ace="A")
SUITS = {"♠": (15, 15, 20), "♣": (15, 20, 15), "♥": (190, 20, 30), "♦": (190, 30, 20)}
WIDTH, HEIGHT = 960, 540
CARD = (250, 350)  # pixels of a card before it is laid down
# Places of the pips, in parts of the card's inner field.
_SIDES = [(x, y) for x in (0.25, 0.75) for y in (0.14, 0.38, 0.62, 0.86)]
PIPS = dict(nine=[*_SIDES, (0.5, 0.5)], ten=[*_SIDES, (0.5, 0.26), (0.5, 0.74)], ace=[(0.5, 0.5)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=296)
    parser.add_argument("--val", type=int, default=67)
    args = parser.parse_args()
    cards = {(rank, suit): card(rank, suit) for rank in RANKS for suit in SUITS}
    (args.folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split, count, seed in (("train", args.train, 1), ("val", args.val, 2)):
        rng = np.random.default_rng(seed)
        (args.folder / "images" / split).mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for number in range(1, count + 1):
            picture, boxes = table(cards, rng)
            name = f"{number:04d}.jpg"
            file = str(args.folder / "images" / split / name)
            cv2.imwrite(file, picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
            images.append(dict(id=number, file_name=name, width=WIDTH, height=HEIGHT))
            for rank, (x, y, w, h) in boxes:
                annotation = dict(id=len(annotations) + 1, image_id=number, iscrowd=0)
                annotation.update(category_id=list(RANKS).index(rank) + 1)
                annotations.append(annotation | dict(bbox=[x, y, w, h], area=w * h))
        categories = [dict(id=k, name=name) for k, name in enumerate(RANKS, 1)]
        whole = dict(images=images, annotations=annotations, categories=categories)
        (args.folder / f"annotations/instances_{split}.json").write_text(json.dumps(whole))
    print(f"{args.folder}: {args.train} pictures to train on, {args.val} to validate on")


def font(size: int) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans-Bold.ttf"), size)


def card(rank: str, suit: str) -> np.ndarray:
    """A card from above, RGBA."""
    width, height = CARD
    image = Image.new("RGBA", CARD)
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), 16, (248, 247, 240, 255), (90, 90, 90))
    colour = SUITS[suit]
    corner = Image.new("RGBA", (56, 100))
    index = ImageDraw.Draw(corner)
    index.text((28, 28), RANKS[rank], colour, font(38), anchor="mm")
    index.text((28, 72), suit, colour, font(36), anchor="mm")
    image.alpha_composite(corner, (4, 6))
    image.alpha_composite(corner.rotate(180), (width - 60, height - 106))
    if rank in PIPS:
        for x, y in PIPS[rank]:
            size = 110 if rank == "ace" else 54
            place = (55 + x * (width - 110), 30 + y * (height - 60))
            draw.text(place, suit, colour, font(size), anchor="mm")
        return np.array(image)
    figure(draw, rank, suit, colour)
    return np.array(image)


def figure(draw: ImageDraw.ImageDraw, rank: str, suit: str, colour: tuple) -> None:
    """A court card's picture: stripes, a head and what it wears, twice."""
    width, height = CARD
    draw.rectangle((60, 40, width - 60, height - 40), (244, 226, 170), (30, 50, 130), 3)
    for k in range(7):
        shade = [(200, 40, 40), (30, 60, 150), (230, 180, 30)][k % 3]
        draw.line((62, 60 + 34 * k, width - 62, 100 + 34 * k), shade, 8)
    for top, sign in ((95, -1), (height - 95, 1)):
        draw.ellipse((95, top - 32, 155, top + 32), (246, 214, 180), (60, 40, 30), 3)
        tip = top + sign * 48
        near = top + sign * 24
        if rank == "king":
            points = [(92, near), (92, tip), (110, near), (125, tip), (140, near), (158, tip)]
            draw.polygon([*points, (158, near)], (240, 200, 20), (90, 60, 0))
        elif rank == "queen":
            draw.ellipse((92, min(tip, near), 158, max(tip, near)), (240, 200, 20), (90, 60, 0))
        else:
            draw.polygon([(92, near), (170, near), (150, tip)], (180, 30, 50), (60, 0, 0))
    draw.text((80, 60), suit, colour, font(34), anchor="mm")
    draw.text((width - 80, height - 60), suit, colour, font(34), anchor="mm")


def cloth(rng: np.random.Generator) -> np.ndarray:
    """A table: one colour, coarse and fine patterns on it, now and then things that are no card."""
    base = rng.uniform(30, 200, 3)
    ground = np.ones((HEIGHT, WIDTH, 3)) * base
    for cells in (4, 12, 60):
        coarse = rng.normal(0, 14, (cells, 2 * cells, 1)).astype(np.float32)
        coarse = np.repeat(coarse, 3, 2) + rng.normal(0, 4, (cells, 2 * cells, 3))
        ground += cv2.resize(coarse.astype(np.float32), (WIDTH, HEIGHT))
    for _ in range(rng.integers(0, 5)):
        place = tuple(int(v) for v in rng.uniform((0, 0), (WIDTH, HEIGHT)))
        size = tuple(int(v) for v in rng.uniform(20, 110, 2))
        colour = rng.uniform(0, 255, 3).tolist()
        cv2.ellipse(ground, place, size, rng.uniform(0, 180), 0, 360, colour, -1)
    return ground


def table(cards: dict, rng: np.random.Generator) -> tuple[np.ndarray, list]:
    """A picture, and rank and box of each card on it of which enough is seen."""
    picture = cloth(rng)
    owner = np.zeros((HEIGHT, WIDTH), int)
    laid = []
    middle = rng.uniform((0.35, 0.35), (0.65, 0.65)) * (WIDTH, HEIGHT)
    height = rng.uniform(130, 330)
    for number in range(1, rng.choice([1, 1, 2, 2, 3, 4]) + 1):
        key = list(cards)[rng.integers(len(cards))]
        scale = height * rng.uniform(0.92, 1.08) / CARD[1]
        centre = middle + rng.normal(0, (0.17 * WIDTH, 0.15 * HEIGHT))
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array(CARD) / 2 * scale
        corners = corners @ turn.T + rng.normal(0, 0.02 * height, (4, 2)) + centre
        edges = np.array([(0, 0), (CARD[0], 0), CARD, (0, CARD[1])])
        warp = cv2.getPerspectiveTransform(edges.astype("f4"), corners.astype("f4"))
        image = cv2.warpPerspective(cards[key], warp, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
        cover = image[..., 3:] / 255
        shadow = cv2.GaussianBlur(cover[..., 0], (0, 0), 6)[..., None] * 0.35
        picture = picture * (1 - shadow * (1 - cover))
        picture = picture * (1 - cover) + image[..., :3] * cover
        owner[cover[..., 0] > 0.5] = number
        laid.append((key[0], int((cover > 0.5).sum())))
    boxes = []
    for number, (rank, pixels) in enumerate(laid, 1):
        y, x = np.nonzero(owner == number)
        if len(x) > 0.35 * pixels and len(x) > 1500:
            left, top = int(x.min()), int(y.min())
            boxes.append((rank, (left, top, int(x.max()) - left + 1, int(y.max()) - top + 1)))
    light = np.linspace(rng.uniform(0.65, 1), rng.uniform(0.65, 1.1), WIDTH)[None, :, None]
    picture = picture * light * rng.uniform(0.85, 1.1, 3)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.8))
    picture += rng.normal(0, rng.uniform(2, 8), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), boxes


if __name__ == "__main__":
    main()
