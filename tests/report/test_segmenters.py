"""The page of real, tiny segmenters: scores, IoU of each class, label maps in the legend's colours.

The runs are the segmentation demo's own configs through the real Runner, on a few pictures.
"""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from report.html_page import Page

from normfix_mm.datasets.digits import BACKGROUND, CLASSES, IGNORED, make_digits
from normfix_mm.report import images, label_maps
from normfix_mm.report.__main__ import main
from normfix_mm.report.run import NoRun, Run, settings

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "configs/demo"
NAMES = (*CLASSES, "background")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp("data") / "digits", train=8, val=4)


@pytest.fixture(scope="module")
def work_dirs(data, tmp_path_factory):
    """Work dirs of FixNorm and of the baseline."""
    root = tmp_path_factory.mktemp("demo-seg")
    for kind in ("fixnorm", "baseline"):
        cfg = Config.fromfile(str(CONFIGS / f"ocnet_r18-d8_{kind}_1xb8-1k_digits.py"))
        loaders = {
            f"{loader}_dataloader.{key}": value
            for loader in ("train", "val")
            for key, value in dict(num_workers=0, persistent_workers=False).items()
        }
        cfg.merge_from_dict(
            loaders
            | {
                "work_dir": str(root / kind),
                "experiment_name": f"segmenters-{kind}",  # mmengine shares logs of one name
                "visualizer": dict(
                    type="Visualizer",
                    name=f"segmenters-{kind}",
                    vis_backends=[dict(type="LocalVisBackend")],
                ),
                "train_cfg.max_iters": 4,
                "train_cfg.val_interval": 2,
                "param_scheduler.0.end": 2,
                "param_scheduler.1.end": 4,
                "train_dataloader.batch_size": 4,
                "train_dataloader.dataset.data_root": f"{data}/",
                "val_dataloader.dataset.data_root": f"{data}/",
                "default_hooks.logger.interval": 1,
            }
        )
        for hook in cfg.custom_hooks:
            if hook.type == "NormMonitorHook":
                hook.interval = 1
        Runner.from_cfg(cfg).train()
    return [root / "fixnorm", root / "baseline"]


@pytest.fixture(scope="module")
def page(work_dirs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page.html"
    main([*map(str, work_dirs), "--out", str(out), "--names", "FixNorm", "decay"])
    return out


@pytest.fixture(scope="module")
def drawn(work_dirs):
    return images.draw([Run.load(folder, folder.name) for folder in work_dirs])


@pytest.fixture(scope="module")
def predicted(work_dirs, data):
    """Label maps that the FixNorm run's checkpoint gives of the validation images, by name."""
    from mmseg.apis import inference_model, init_model

    run = Run.load(work_dirs[0])
    model = init_model(run.config, str(run.checkpoint), device="cpu")
    model.cfg.test_pipeline = model.cfg.val_dataloader.dataset.pipeline
    return {
        path.stem: inference_model(model, str(path)).pred_sem_seg.data[0].numpy()
        for path in sorted((data / "images/val").iterdir())
    }


def labels(data, name):
    return np.array(Image.open(data / f"labels/val/{name}.png"))


def rows_of(page, kind):
    """Cells of the page's table of a kind."""
    table = re.search(rf'<table class="{kind}">(.*?)</table>', page.read_text(), re.S)[1]
    return [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>.*?</tr>", table)]


def test_iou_of_each_class_is_the_one_counted_by_hand(page, predicted, data, work_dirs):
    truths = np.stack([labels(data, name) for name in predicted])
    found = np.stack(list(predicted.values()))
    found = np.where(truths == IGNORED, IGNORED, found)
    head, *rows = rows_of(page, "figures classes")
    assert head == ["class", "FixNorm", "decay"]
    shown = {row[0]: row[1] for row in rows}
    assert tuple(shown) == (*NAMES, "mIoU")
    shares = []
    for label, name in enumerate(NAMES):
        either = ((truths == label) | (found == label)).sum()
        both = ((truths == label) & (found == label)).sum()
        if either:
            shares.append(both / either)
            assert float(shown[name]) == pytest.approx(shares[-1], abs=0.0006)
        else:
            assert shown[name] == "–"
    assert max(shares) > 0.1 and len(set(shown.values())) > 1
    assert float(shown["mIoU"]) == pytest.approx(np.mean(shares), abs=0.0006)
    results = rows_of(page, "figures")
    assert results[0][:4] == ["run", "mIoU", "aAcc", "mAcc"]
    assert results[1][1] == shown["mIoU"]
    right = (truths == found)[truths != IGNORED].mean()
    assert float(results[1][2]) == pytest.approx(right, abs=0.0006)


def test_pictures_are_the_image_the_truth_and_each_run_in_the_legend_s_colours(
    drawn, predicted, data
):
    assert drawn.titles == ["image", "ground truth", "fixnorm: prediction", "baseline: prediction"]
    assert drawn.ignored
    names, colours = zip(*drawn.legend)
    assert names == NAMES and len(set(colours)) == len(NAMES)
    assert len(drawn.rows) == len(predicted) == 4
    for row, (name, found) in zip(drawn.rows, predicted.items()):
        assert {picture.shape for picture in row} == {(images.SIDE, images.SIDE, 3)}
        small = cv2.resize(row[0], (128, 128), interpolation=cv2.INTER_AREA).astype(float)
        image = cv2.imread(str(data / f"images/val/{name}.jpg"))[..., ::-1]
        assert abs(small - image).mean() < 3
        truth = labels(data, name)
        # Corner points of enlarged pixels are looked up where those pixels are.
        at = np.arange(images.SIDE) * 128 // images.SIDE
        for picture, map_ in ((row[1], truth), (row[2], found)):
            large = map_[np.ix_(at, at)]
            for label in range(len(NAMES)):
                assert (picture[large == label] == colours[label]).all()
        striped = row[1][truth[np.ix_(at, at)] == IGNORED]
        assert {tuple(c) for c in striped} == set(label_maps.STRIPES)
        assert (truth == BACKGROUND).mean() > 0.5
    assert not set(label_maps.STRIPES) & set(colours)
    beyond = label_maps.paint(np.full((8, 8), len(colours), np.uint8), colours)
    assert {tuple(c) for row in beyond for c in row} == set(label_maps.STRIPES)


def test_page_has_a_row_of_pictures_for_each_image_and_the_legend(page, drawn):
    text = page.read_text()
    assert text.count('class="legend"') == 1
    for name, (r, g, b) in drawn.legend:
        assert f'<i style="background: #{r:02x}{g:02x}{b:02x}"></i>{name}</span>' in text
    assert '<i class="ignored"></i>ignored' in text
    parsed = Page(page)
    assert all(address.startswith("data:image/png;base64,") for address in parsed.addresses)
    first = base64.b64decode(parsed.addresses[1].partition(",")[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first))), drawn.rows[0][1])
    # Four images four times; IoU, loss, joint norm, gain, risk, two rates, for light and dark.
    assert len(parsed.addresses) == 4 * 4 + 7 * 2
    for word in ("FixNormOCHead", "FixNormFCNHead", "OCHead", "NormFixHook", "weight_decay 0.0005"):
        assert word in parsed.text


def test_curves_are_what_the_runs_did(work_dirs):
    fixnorm, baseline = (Run.load(folder) for folder in work_dirs)
    steps, norms = fixnorm.curve("joint_norm")
    assert steps == [1, 2, 3, 4]
    assert norms == pytest.approx([norms[0]] * 4, rel=1e-6)
    assert fixnorm.keys("cap/") == ["cap/auxiliary_head.conv_seg", "cap/decode_head.conv_seg"]
    assert baseline.curve("joint_norm")[0] == steps and not baseline.keys("cap/")
    assert list(fixnorm.val) == [2, 4]
    assert 0 < fixnorm.results()["mIoU"] < fixnorm.results()["aAcc"] < 1
    assert dict(settings(fixnorm))["model"] == "EncoderDecoder"


def test_picture_for_the_readme(work_dirs, tmp_path):
    main([str(work_dirs[0]), "--picture", str(tmp_path / "demo.png")])
    picture = Image.open(tmp_path / "demo.png")
    assert picture.width > 2 * picture.height


def test_without_values_of_the_classes_there_is_no_table_of_them(work_dirs, tmp_path):
    """As MMSegmentation's own IoUMetric leaves a run."""
    folder = tmp_path / "run"
    shutil.copytree(work_dirs[0], folder)
    for log in folder.glob("*/vis_data/scalars.json"):
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        assert any("IoU/background" in entry for entry in entries)
        kept = [{k: v for k, v in e.items() if not k.startswith("IoU/")} for e in entries]
        log.write_text("\n".join(map(json.dumps, kept)))
    main([str(folder), "--out", str(tmp_path / "page.html")])
    text = (tmp_path / "page.html").read_text()
    assert "figures classes" not in text and "mIoU" in text and "ClassIoUMetric as" in text


def test_a_dataset_s_palette_is_kept_and_a_random_one_is_not(data):
    from mmengine.dataset import ConcatDataset
    from mmseg.datasets import BaseSegDataset, CityscapesDataset

    def dataset(kind, **metainfo):
        return kind(
            metainfo=metainfo or None,
            data_root=str(data),
            data_prefix=dict(img_path="images/val", seg_map_path="labels/val"),
            img_suffix=".jpg",
            seg_map_suffix=".png",
        )

    streets = dataset(CityscapesDataset)
    assert label_maps.palette(streets)[0] == (128, 64, 128)
    assert label_maps.palette(ConcatDataset([streets, streets])) == label_maps.palette(streets)
    own = [[1, 2, 3], [4, 5, 6]]
    told = dataset(BaseSegDataset, classes=("a", "b"), palette=own)
    assert label_maps.palette(told, own) == [(1, 2, 3), (4, 5, 6)]
    untold = dataset(BaseSegDataset, classes=("a", "b"))
    assert label_maps.palette(untold) == list(label_maps.PETROFF[:2])
    assert len(set(label_maps.generated(70))) == 70


def test_runs_of_two_kinds_have_no_page_in_common(work_dirs, tmp_path):
    detector = tmp_path / "detector"
    (detector / "1/vis_data").mkdir(parents=True)
    (detector / "1/vis_data/scalars.json").write_text(json.dumps(dict(loss=1.0, step=1)))
    (detector / "config.py").write_text("default_scope, model, train_cfg = 'mmdet', {}, {}")
    with pytest.raises(NoRun, match="mmdet and mmseg"):
        images.draw([Run.load(work_dirs[0]), Run.load(detector)])
