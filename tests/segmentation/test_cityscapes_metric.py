"""The official evaluation against MMSegmentation's IoU, on predictions of every class."""

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from helpers.toy_cityscapes import SIZE, make_toy_cityscapes
from mmengine.registry import METRICS, DefaultScope
from mmseg.datasets import CityscapesDataset
from PIL import Image

from normfix_mm.datasets import cityscapes
from normfix_mm.errors import BadInput
from normfix_mm.segmentation import CityscapesOfficialMetric


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = make_toy_cityscapes(tmp_path_factory.mktemp("metric") / "cityscapes")
    list(cityscapes.prepare(root))
    return root


@pytest.fixture
def samples(toy):
    """What a segmenter hands to evaluators: two thirds of the pixels right, the rest anything."""
    random = np.random.default_rng(1)
    found = []
    for path in sorted(toy.glob("leftImg8bit/val/*/*.png")):
        truth = str(path).replace("leftImg8bit/val", "gtFine/val")
        truth = truth.replace("_leftImg8bit.png", "_gtFine_labelTrainIds.png")
        labels = torch.from_numpy(np.asarray(Image.open(truth)).astype(np.int64))
        anything = torch.from_numpy(random.integers(0, 19, labels.shape))
        keep = torch.from_numpy(random.random(labels.shape) < 0.67) & (labels != 255)
        found.append(
            dict(
                img_path=str(path),
                seg_map_path=truth,
                gt_sem_seg=dict(data=labels[None]),
                pred_sem_seg=dict(data=torch.where(keep, labels, anything)[None]),
            )
        )
    return found


def evaluate(samples, kind, **options):
    with DefaultScope.overwrite_default_scope("mmseg"):
        metric = METRICS.build(dict(type=kind, **options))
    metric.dataset_meta = CityscapesDataset.METAINFO
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def test_it_agrees_with_mmsegmentation_s_iou(samples):
    ours = evaluate(samples, "CityscapesOfficialMetric")
    theirs = evaluate(samples, "IoUMetric", iou_metrics=["mIoU"])
    assert ours["official/IoU_class"] == pytest.approx(theirs["mIoU"], abs=0.011)
    assert 15 < theirs["mIoU"] < 40
    assert ours.keys() == {
        f"official/{name}" for name in ("IoU_class", "iIoU_class", "IoU_category", "iIoU_category")
    }
    assert ours["official/iIoU_class"] > 0 and ours["official/IoU_category"] > 0


def test_files_are_what_the_server_takes(samples, tmp_path):
    evaluate(
        samples, "CityscapesOfficialMetric", output_dir=str(tmp_path / "out"), format_only=True
    )
    files = sorted((tmp_path / "out").iterdir())
    assert [path.stem for path in files] == [path_of(sample) for sample in samples]
    for path, sample in zip(files, samples):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", SIZE)
            ids = np.asarray(image)
        classes = np.vectorize(lambda k: id2label[k].trainId)(ids)
        np.testing.assert_array_equal(classes, sample["pred_sem_seg"]["data"][0].numpy())


def path_of(sample) -> str:
    return sample["img_path"].rpartition("/")[2].removesuffix(".png")


def test_format_only_needs_no_labels_and_evaluation_names_what_is_missing(samples, tmp_path):
    for sample in samples:
        del sample["gt_sem_seg"]
        sample["seg_map_path"] = sample["seg_map_path"].replace("frankfurt", "absent")
    with pytest.raises(BadInput, match=r"needs '.*_gtFine_labelIds.png', which is missing; run"):
        evaluate(samples, "CityscapesOfficialMetric")
    for sample in samples:
        del sample["seg_map_path"]
    options = dict(output_dir=str(tmp_path / "out"), format_only=True)
    assert evaluate(samples, "CityscapesOfficialMetric", **options) == {}


def test_without_instances_there_is_no_iiou(samples, toy, tmp_path):
    hidden = [path.rename(tmp_path / path.name) for path in toy.rglob("*_instanceIds.png")]
    try:
        found = evaluate(samples, "CityscapesOfficialMetric")
    finally:
        for path in hidden:
            path.rename(toy / "gtFine/val/frankfurt" / path.name)
    assert found.keys() == {"official/IoU_class", "official/IoU_category"}


def test_files_of_the_moment_go_and_others_stay(samples, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    evaluate(samples, "CityscapesOfficialMetric")
    assert not list(tmp_path.iterdir())
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/notes.txt").write_text("mine")
    evaluate(samples, "CityscapesOfficialMetric", output_dir=str(tmp_path / "kept"))
    assert len(list((tmp_path / "kept").iterdir())) == 1 + len(samples)


def test_an_error_of_cityscapesscripts_is_one_sentence(samples):
    samples[0]["pred_sem_seg"]["data"] = torch.zeros(1, 5, 7, dtype=torch.int64)
    with pytest.raises(BadInput, match=r"cannot evaluate: ERROR: Image widths of .*not equal"):
        evaluate(samples, "CityscapesOfficialMetric")


def test_format_only_without_a_folder():
    with pytest.raises(BadInput, match="give output_dir"):
        CityscapesOfficialMetric(format_only=True)
