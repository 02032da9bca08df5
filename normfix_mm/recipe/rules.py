"""What a training on a folder of one's own is made of, decided from the data and the time.

Nothing here trains or measures: these are the decisions, from numbers to numbers. ``config``
writes them into a config, ``training`` measures and trains.

Image size. Half of the objects shall have a side of 128 pixels or more and three quarters of 32, in
pictures that are enlarged at most by half: small objects need larger pictures. Where the time does
not suffice for enough of them, the pictures become smaller, down to half of that side.

Length. As many epochs as the time allows, and no more than pay: 6000 iterations, 100 epochs at
least allowed. Enough are 1200 iterations, between 6 and 40 epochs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from normfix_mm.datasets.contents import CLASSIFY, DETECT, INSTANCES, SEGMENT, Contents
from normfix_mm.errors import BadInput

METHODS = dict(decay="baseline", fixnorm="fixnorm")
METHODS["eps-shift"] = "wn-eps"  # WS would make another function of ImageNet's weights
HALF, MOST_OBJECTS = 128, 32  # pixels of the median object's side, of the quarter's quantile
ENLARGED = 1.5  # at most, times the pictures' own size
LONGEST, SHORTEST = 1024, 256  # pixels of the longer side of a picture
STEP = 32  # pixels, of the coarsest map that the segmenter and the FPN need whole
ENOUGH, PLENTY = 1200, 6000  # iterations
VALIDATIONS = 10
MARGIN = 0.15  # of the time, for what a few iterations cannot tell
ENDING = 15.0  # seconds for the page


@dataclass(frozen=True)
class Task:
    """What is trained for a task, and how it is judged.

    Attributes:
        model: begins the names of its configs in configs/from_imagenet.
        metric: that the best checkpoint is chosen by, as mmengine logs it.
        word: what people call it.
        lr: the highest rate of the schedule.
    """

    model: str
    metric: str
    word: str
    lr: float


TASKS = {
    DETECT: Task("atss_lite0_fpn", "coco/bbox_mAP", "AP", 0.02),
    INSTANCES: Task("mask-rcnn_lite0_fpn", "coco/segm_mAP", "mask AP", 0.02),
    SEGMENT: Task("ocnet_lite0-d8", "mIoU", "mIoU", 0.05),
    CLASSIFY: Task("efficientnet_lite0", "accuracy/top1", "top-1", 0.02),
}


def wanted_size(contents: Contents, task: str) -> tuple[int, int]:
    """Width and height of the training pictures that the data asks for, whatever they cost."""
    longer = max(contents.width, contents.height)
    if task == CLASSIFY:
        side = min(max(min(contents.width, contents.height), 128), 224)
        return _rounded(side), _rounded(side)
    if task == SEGMENT or not contents.sides:
        wanted = min(longer, 640)
    else:
        sides = contents.sides
        quarter, half = sides[len(sides) // 4], sides[len(sides) // 2]
        wanted = max(HALF / half, MOST_OBJECTS / quarter)
    wanted = min(wanted, ENLARGED * longer, LONGEST)
    return shaped(contents, max(wanted, SHORTEST))


def shaped(contents: Contents, longer: float) -> tuple[int, int]:
    """A size in whole steps with this longer side, in which pictures of their shape fit."""
    longer = _rounded(longer)
    factor = longer / max(contents.width, contents.height)
    sides = (contents.width * factor, contents.height * factor)
    width, height = (STEP * max(1, math.ceil(side / STEP - 0.01)) for side in sides)
    return width, height


def affordable_size(
    size: tuple[int, int], contents: Contents, task: str, possible: float, enough: float
) -> tuple[int, int]:
    """The size with which `enough` epochs fit where with `size` only `possible` ones do.

    Time goes with the number of pixels. No smaller than half the side, nor than SHORTEST.
    """
    if possible >= enough:
        return size
    share = math.sqrt(max(possible, 0.0) / enough)
    if task == CLASSIFY:
        side = _rounded(max(size[0] * share, size[0] / 2, 64))
        return side, side
    longer = max(size)
    smaller = max(longer * share, longer / 2, min(SHORTEST, longer))
    return shaped(contents, smaller)


def _rounded(side: float) -> int:
    return STEP * max(1, round(side / STEP))


def enough_epochs(epoch_length: int) -> int:
    """Of so many iterations, so many epochs are worth smaller pictures."""
    return max(min(max(math.ceil(ENOUGH / epoch_length), 6), 40), math.ceil(300 / epoch_length))


def most_epochs(epoch_length: int) -> int:
    """More than so many do not pay."""
    plenty = min(max(math.ceil(PLENTY / epoch_length), 12), 100)
    return max(plenty, math.ceil(600 / epoch_length))


def possible_epochs(
    seconds: float, epoch_length: int, iteration: float, validation: float, start: float
) -> int:
    """How many epochs, with their validations, fit into the time.

    Args:
        seconds: that are left.
        iteration: seconds of one.
        validation: seconds of one.
        start: seconds until training begins.
    """
    left = seconds * (1 - MARGIN) - start - ENDING
    epoch = epoch_length * iteration
    with_all = (left - VALIDATIONS * validation) / epoch
    if with_all >= VALIDATIONS:
        return int(with_all)
    return max(0, int(left / (epoch + validation)))  # one validation an epoch


def seconds_for(
    epochs: int, epoch_length: int, iteration: float, validation: float, start: float
) -> float:
    """The time that `possible_epochs` finds enough for so many."""
    validations = min(epochs, VALIDATIONS)
    work = start + ENDING + epochs * epoch_length * iteration + validations * validation
    return work / (1 - MARGIN)


def check_time(epochs: int, hours: float, size: tuple[int, int], needed: float) -> None:
    """Refuse a training of no epoch.

    Args:
        needed: seconds for one.

    Raises:
        BadInput: With the time that it would take.
    """
    if epochs < 1:
        raise BadInput(
            f"--hours {hours:g} is too short for one epoch of pictures of {size[0]}×{size[1]} "
            f"here, which takes {spoken(needed)} with start and validation: give --hours "
            f"{math.ceil(needed / 36) / 100:g} or more, or a smaller --size."
        )


_UNSAFE = re.compile(
    r"(^|[\W_])(left|right|arrow|text|letters?|digits?|numbers?|zero|one|two|three|four|five|six|"
    r"seven|eight|nine|ten|[a-z]|\d+)([\W_]|$)",
    re.IGNORECASE,
)


def unsafe_to_flip(classes: Sequence[str], numbered: bool = False) -> list[str]:
    """Classes whose names say that a mirror image is another thing: sides, letters, numbers.

    Args:
        numbered: the names are but the numbers of classes without names, and say nothing.
    """
    return [] if numbered else [name for name in classes if _UNSAFE.search(name)]


def spoken(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
