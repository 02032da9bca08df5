"""`tools/prepare_cityscapes.py` on a miniature Cityscapes, right and wrong."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import trainId2label
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from helpers.tool import call
from helpers.toy_cityscapes import SIZE, make_toy_cityscapes
from mmseg.datasets import CityscapesDataset
from PIL import Image

from normfix_mm.datasets import cityscapes
from normfix_mm.errors import BadInput

TRUTH = "gtFine/val/frankfurt/frankfurt_000001_000019_gtFine_"
IMAGE = "leftImg8bit/val/frankfurt/frankfurt_000001_000019_leftImg8bit.png"


@pytest.fixture
def toy(tmp_path):
    return make_toy_cityscapes(tmp_path / "cityscapes")


def prepare(root: Path, **options) -> list[cityscapes.Split]:
    return list(cityscapes.prepare(root, **options))


def written(root: Path) -> dict[Path, int]:
    """Every file, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def labels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_labels_are_those_that_cityscapesscripts_draws(toy, tmp_path, capsys):
    call("prepare_cityscapes.py", toy)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("train: 4 images of the whole set's 2975 in 2 cities, 4 label files")
    assert said[1].startswith("val: 3 images of the whole set's 500 in 1 city, 3 label files")
    assert said[2].startswith("test: 2 images of the whole set's 1525 in 1 city, no labels needed")
    assert said[-1].startswith("Ready")
    made = sorted(toy.glob("gtFine/*/*/*_labelTrainIds.png"))
    assert len(made) == 7
    found = set()
    for path in made:
        json2labelImg(
            str(path).replace("labelTrainIds.png", "polygons.json"),
            str(tmp_path / "expected.png"),
            "trainIds",
        )
        np.testing.assert_array_equal(labels(path), labels(tmp_path / "expected.png"))
        found |= set(np.unique(labels(path)).tolist())
        with Image.open(path) as image:
            assert image.mode == "L" and image.size == SIZE
    assert found == {0, 1, 2, 8, 10, 11, 13, 255}
    # Of the validation images also what the benchmark's evaluation reads.
    cars = labels(f"{toy / TRUTH}instanceIds.png")
    assert {n for n in np.unique(cars).tolist() if n > 1000} == {26000, 24000}
    assert 26 in cars  # the group
    assert not list(toy.rglob("*.part"))


def test_a_second_call_writes_nothing(toy):
    prepare(toy)
    before = written(toy)
    assert [split.written for split in prepare(toy)] == [0, 0, 0]
    assert written(toy) == before


@pytest.mark.parametrize("spoil", ["missing", "cut", "size", "values", "classes", "channels"])
def test_it_goes_on_where_it_was_interrupted(toy, spoil):
    prepare(toy)
    path = Path(f"{toy / TRUTH}labelTrainIds.png")
    right, before = path.read_bytes(), written(toy)
    if spoil == "missing":
        path.unlink()
    elif spoil == "cut":
        path.write_bytes(right[:60])
    elif spoil == "size":
        Image.new("L", (SIZE[0], SIZE[1] - 1)).save(path)
    elif spoil == "values":
        Image.new("L", SIZE, 19).save(path)
    elif spoil == "classes":
        Image.new("L", SIZE, 3).save(path)
    else:
        Image.new("RGB", SIZE).save(path)
    assert [split.written for split in prepare(toy)] == [0, 1, 0]
    assert path.read_bytes() == right
    assert {p for p, when in written(toy).items() if before[p] != when} == {path}


def test_nothing_half_written_is_left(toy, monkeypatch):
    """A full disk: the file of the moment is gone, those before it are whole."""
    save = Image.Image.save

    def full(image, path, **options):
        save(image, path, **options)
        if "frankfurt_000001" in str(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(BadInput, match=r"cannot be written \(.*No space left.*free space"):
        prepare(toy)
    assert not list(toy.rglob("*.part")) and not list(toy.rglob("frankfurt_000001*_labelIds.png"))
    assert len(list(toy.rglob("*_labelTrainIds.png"))) == 5
    monkeypatch.undo()
    assert [split.written for split in prepare(toy)] == [0, 2, 0]


def test_label_ids_that_are_there_are_taken_before_polygons(toy):
    """They differ along edges from polygons drawn today, and the evaluation takes them."""
    ids = np.zeros(SIZE[::-1], np.uint8)
    ids[5:20, 7:9], ids[30:, :] = 26, 3
    Image.fromarray(ids).save(f"{toy / TRUTH}labelIds.png")
    Path(f"{toy / TRUTH}polygons.json").unlink()
    prepare(toy)
    expected = np.full_like(ids, 255)
    expected[5:20, 7:9] = 13
    np.testing.assert_array_equal(labels(f"{toy / TRUTH}labelTrainIds.png"), expected)
    assert not Path(f"{toy / TRUTH}instanceIds.png").exists()


def test_several_processes_do_the_same(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(cityscapes, "_ALONE", 1)
    other = shutil.copytree(toy, tmp_path / "other")
    assert prepare(toy, workers=2) == prepare(other, workers=1)
    for path in toy.rglob("*.png"):
        assert path.read_bytes() == (other / path.relative_to(toy)).read_bytes()
    (toy / IMAGE).write_bytes(b"no picture")
    with pytest.raises(BadInput, match="cannot be read"):  # also through the pool
        prepare(toy, workers=2)


def test_the_table_is_that_of_mmsegmentation_s_classes():
    names = [trainId2label[k].name for k in range(19)]
    assert names == list(CityscapesDataset.METAINFO["classes"])
    assert [trainId2label[k].id for k in range(19)] == cityscapes.label_ids().tolist()
    table = cityscapes.training_ids()
    assert table[cityscapes.label_ids()].tolist() == list(range(19))
    assert (table == 255).sum() == len(table) - 19 == 15


def remove_one_image(root):
    (root / IMAGE).unlink()


def remove_one_annotation(root):
    Path(f"{root / TRUTH}polygons.json").unlink()


def cut_image(root):
    data = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(data[: len(data) // 2])


def cut_polygons(root):
    Path(f"{root / TRUTH}polygons.json").write_text('{"imgHeight": 64, "imgW')


def unknown_label(root):
    path = Path(f"{root / TRUTH}polygons.json")
    content = json.loads(path.read_text())
    content["objects"][0]["label"] = "zeppelin"
    path.write_text(json.dumps(content))


def other_size(root):
    Image.new("L", (20, 10)).save(f"{root / TRUTH}labelIds.png")


def wrong_ids(root):
    Image.new("L", SIZE, 77).save(f"{root / TRUTH}labelIds.png")


def colours(root):
    Image.new("RGB", SIZE).save(f"{root / TRUTH}labelIds.png")


def zipped(part, archive):
    def spoil(root):
        shutil.rmtree(root / part)
        (root / archive).write_bytes(b"PK")

    return spoil


def nest(part):
    def spoil(root):
        inner = root / f"{part}_trainvaltest"
        inner.mkdir()
        (root / part).rename(inner / part)

    return spoil


def without(folder):
    return lambda root: shutil.rmtree(root / folder)


def without_pictures(root):
    for path in root.glob("leftImg8bit/train/*/*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without(""), r"The folder '.*' does not exist; give"),
        (zipped("leftImg8bit", "leftImg8bit_trainvaltest.zip"), r"not extracted; run `unzip left"),
        (zipped("gtFine", "gtFine_trainvaltest.zip"), r"not extracted; run `unzip gtFine_trainv"),
        (nest("leftImg8bit"), r"leftImg8bit/ is not in .* but in .*/leftImg8bit_trainvaltest; giv"),
        (nest("gtFine"), r"gtFine/ is not in .* but in .*/gtFine_trainvaltest; give the folder"),
        (without("gtFine"), r"has no gtFine/; extract gtFine_trainvaltest.zip"),
        (without("leftImg8bit"), r"has no leftImg8bit/; extract leftImg8bit_trainvaltest.zip"),
        (without("leftImg8bit/val"), r"leftImg8bit/val does not exist; extract leftImg8bit"),
        (without_pictures, r"leftImg8bit/train holds no CITY/\*_leftImg8bit.png; extract"),
        (without("gtFine/val"), r"3 of 3 images have no annotation under .*gtFine/val, first"),
        (remove_one_annotation, r"1 of 3 images have no annotation .*frankfurt_000001_000019_left"),
        (
            remove_one_image,
            r"1 of 3 annotations .* have no image, first frankfurt/frankfurt_000001",
        ),
    ],
)
def test_a_wrong_folder_is_one_sentence_and_nothing_is_written(toy, spoil, sentence):
    spoil(toy)
    before = written(toy)
    with pytest.raises(BadInput, match=sentence) as caught:
        prepare(toy)
    assert "\n" not in str(caught.value)
    assert written(toy) == before


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            cut_image,
            r"frankfurt_000001_000019_leftImg8bit.png cannot be read .*extract its archive",
        ),
        (cut_polygons, r"polygons.json cannot be read"),
        (unknown_label, r"polygons.json has labels that Cityscapes does not know \('zeppelin'\)"),
        (other_size, r"labelIds.png has 20x10 pixels, its image 128x64; extract"),
        (wrong_ids, r"labelIds.png is no image of label ids from 0 to 33; extract"),
        (colours, r"labelIds.png is no image of label ids from 0 to 33; extract"),
    ],
)
def test_a_wrong_file_is_one_sentence(toy, spoil, sentence):
    spoil(toy)
    with pytest.raises(BadInput, match=sentence) as caught:
        prepare(toy)
    assert "\n" not in str(caught.value)
    assert not Path(f"{toy / TRUTH}labelTrainIds.png").exists()
    assert not list(toy.rglob("*.part"))


@pytest.mark.parametrize("kind", ["labelIds.png", "instanceIds.png"])
def test_what_only_the_evaluation_reads_is_checked_in_every_call(toy, kind):
    prepare(toy)
    path = next(toy.glob(f"gtFine/val/*/*{kind}"))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadInput, match=f"{kind} cannot be read"):
        prepare(toy)


def test_one_level_too_deep(toy):
    with pytest.raises(BadInput, match=r"is one part of Cityscapes; give its parent"):
        prepare(toy / "leftImg8bit")


def test_the_command_ends_with_the_sentence_and_status_1(toy):
    with pytest.raises(SystemExit) as caught:
        call("prepare_cityscapes.py", toy / "absent")
    assert str(caught.value).startswith("error: The folder") and caught.value.code != 0


def test_without_the_test_images_it_says_so(toy, capsys):
    shutil.rmtree(toy / "leftImg8bit/test")
    call("prepare_cityscapes.py", toy)
    assert "test: no images, of the whole set's 1525; only the server" in capsys.readouterr().out


def test_without_cityscapesscripts(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cityscapesscripts.helpers.labels", None)
    cityscapes.training_ids.cache_clear()
    with pytest.raises(BadInput, match=r"needs cityscapesScripts .*pip install cityscapesscripts"):
        prepare(toy)
