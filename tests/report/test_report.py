"""The page of a real, tiny run of both demo configs: complete, self-contained, with pictures.

The runs are the demo's own configs through the real Runner, on a few pictures for two iterations.
"""

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from report.browser import browser, laid_out
from report.html_page import Page

from normfix_mm.datasets.digits import make_digits
from normfix_mm.report.__main__ import main
from normfix_mm.report.classes import classes
from normfix_mm.report.facts import commands, following
from normfix_mm.report.page import _curves as curves
from normfix_mm.report.plots import (
    MOST_POINTS,
    captioned,
    class_precision,
    cross_boundary_risk,
    dress,
    effective_lr,
    gain,
    learning_rate,
)
from normfix_mm.report.plots import picture as plotted
from normfix_mm.report.run import NoRun, Run, settings

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "configs/demo"


@pytest.fixture(scope="module")
def work_dirs(tmp_path_factory):
    """Work dirs of FixNorm and of the baseline."""
    root = tmp_path_factory.mktemp("demo")
    data = f"{make_digits(root / 'digits', train=8, val=4)}/"
    folders = []
    for kind in ("fixnorm", "baseline"):
        cfg = Config.fromfile(str(CONFIGS / f"retinanet_r18_fpn_{kind}_1xb4-6e_digits.py"))
        cfg.merge_from_dict(
            {
                "work_dir": str(root / kind),
                "log_level": "ERROR",
                "visualizer.name": str(root / kind),  # mmengine shares equal names in one process
                "train_cfg.max_epochs": 1,
                "train_cfg.val_interval": 1,
                "train_dataloader.batch_size": 4,
                "train_dataloader.num_workers": 0,
                "train_dataloader.persistent_workers": False,
                "train_dataloader.dataset.data_root": data,
                "val_dataloader.num_workers": 0,
                "val_dataloader.persistent_workers": False,
                "val_dataloader.dataset.data_root": data,
                "default_hooks.logger.interval": 1,
                "val_evaluator.ann_file": data + "annotations/instances_val.json",
                # With a threshold of zero even two iterations give boxes to evaluate.
                "model.test_cfg.score_thr": 0.0,
            }
        )
        for hook in cfg.custom_hooks:
            if hook.type == "NormMonitorHook":
                hook.interval = 1
        Runner.from_cfg(cfg).train()
        folders.append(root / kind)
    return folders


@pytest.fixture(scope="module")
def page(work_dirs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page.html"
    main(
        [
            *map(str, work_dirs),
            "--out",
            str(out),
            "--names",
            "FixNorm",
            "decay <b>",
            "--command",
            "make demo",
        ]
    )
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    return Page(out)


def test_page_needs_nothing_but_itself(page):
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


@pytest.mark.skipif(browser() is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1200, 420])
def test_a_browser_shows_all_of_it_in_a_wide_and_in_a_narrow_window(page, width, tmp_path):
    found = laid_out(page.path, width, tmp_path)
    assert found["width"] == width
    assert found["needed"] == found["shown"]  # nothing to scroll sideways
    assert found["images"] == 4 * 3 + 7 + 3 + 2
    assert found["broken"] == found["outside"] == 0 and found["small"] >= 180


def test_page_has_no_outside_address_in_its_style(work_dirs, tmp_path):
    main([str(work_dirs[0]), "--out", str(tmp_path / "p.html")])
    text = re.sub(r"data:image/png;base64,[\w+/=]+", "", (tmp_path / "p.html").read_text())
    assert not re.search(r"https?:|url\(|@import", text)


def test_every_picture_decodes_and_is_not_blank(page):
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2], validate=True)))
        for address in page.addresses
    ]
    assert {picture.format for picture in pictures} == {"PNG"}
    for picture in pictures:
        assert np.asarray(picture.convert("RGB")).std() > 5 or picture.mode == "RGBA"
        assert np.asarray(picture).std() > 5
    # Four images three times (truth, two runs); seven plots, precision over recall of both and of
    # each, two matrices, for a light and a dark page.
    assert len(pictures) == 4 * 3 + (7 + 3 + 2) * 2


def test_a_run_that_was_cut_off_is_gone_on_with_by_its_own_command(work_dirs):
    run = Run.load(work_dirs[0])
    assert "go on with it" not in dict(following([run]))
    began = "normfix train my.py --resume old.pth --work-dir ~/'my runs'/1"
    run.records = [dict(command="normfix train other.py", ended=True)]
    run.records.append(dict(command=began, ended=False))
    told = html.unescape(commands(following([run])))
    assert "<code>normfix train my.py --work-dir ~/'my runs/1' --resume</code>" in told
    run.records[-1]["ended"] = True
    assert "--resume" not in commands(following([run]))


def test_page_names_results_settings_and_command(page, work_dirs):
    for text in (
        "FixNorm",
        "decay <b>",
        "AP50",
        "AP75",
        "ground truth",
        "make demo",
        "FixNormRetinaHead",
        "WNRetinaHead",
        "weight_decay 0.01",
        "NormFixHook",
        "ReproducibleHook",  # of default_hooks, beside those that every config has
        "a level line. Where nothing fixes it, it drifts.",
    ):
        assert text in page.text
    assert f"{Run.load(work_dirs[0]).results()['AP50']:.3f}" in page.text


def cells(page, kind):
    """Of the page's first table of a kind."""
    table = re.search(rf'<table class="{kind}">(.*?)</table>', page.html, re.S)[1]
    return [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>.*?</tr>", table)]


def test_each_class_has_its_boxes_and_ap_and_the_last_row_is_the_results(page, work_dirs):
    head, *rows, last = cells(page, "figures classes")
    assert head[:4] == ["class", "boxes", "FixNorm: AP", "FixNorm: AP50"]
    assert head[4:] == ["decay &lt;b&gt;: AP", "decay &lt;b&gt;: AP50"]
    assert [row[0] for row in rows] == [str(digit) for digit in range(10)]
    root = work_dirs[0].parent / "digits/annotations/instances_val.json"
    annotations = json.loads(root.read_text())["annotations"]
    assert sum(int(row[1]) for row in rows) == int(last[1]) == len(annotations)
    for at, folder in ((2, work_dirs[0]), (4, work_dirs[1])):
        results = Run.load(folder).results()
        assert float(last[at]) == pytest.approx(results["AP"], abs=1.5e-3)
        assert float(last[at + 1]) == pytest.approx(results["AP50"], abs=1.5e-3)


def test_the_page_says_how_each_run_was_made_and_what_comes_next(page, work_dirs):
    import mmdet
    import torch

    run = work_dirs[0]
    for text in (
        "How each run was made",
        f"mmdet {mmdet.__version__}",
        f"torch {torch.__version__.partition('+')[0]}",
        "CPU core",
        "Whole config of decay <b>",
        f"python tools/test.py {next(run.glob('*.py'))} {run}/epoch_1.pth --show-dir shown",
        f"python tools/fold.py {next(run.glob('*.py'))} {run}/epoch_1.pth {run}/deployed",
        "python tools/tune.py",
    ):
        assert text in page.text, text
    assert "OTHER_WORK_DIR" not in page.text  # there is one already
    assert "were not noted" not in page.text and "Nothing was noted" not in page.text


def test_curves_are_what_the_runs_did(work_dirs):
    fixnorm, baseline = (Run.load(folder) for folder in work_dirs)
    steps, norms = fixnorm.curve("joint_norm")
    assert steps == [1, 2]
    assert norms[1] == pytest.approx(norms[0], rel=1e-6)
    assert baseline.curve("joint_norm")[1][0] == pytest.approx(norms[0], rel=1e-2)
    (key,) = fixnorm.keys("gain/")
    assert fixnorm.curve("cap/bbox_head.retina_cls")[1] == pytest.approx([60**0.5] * 2)
    assert key in baseline.keys("gain/")
    assert not baseline.keys("cap/")
    rate, effective = fixnorm.curve("lr")[1][1], fixnorm.curve("effective_lr")[1][1]
    assert effective == pytest.approx(rate / norms[1] ** 2)
    assert list(fixnorm.val) == [2]
    for run in (fixnorm, baseline):
        assert run.val_keys("mcbr/") == ["mcbr/bbox_head.retina_cls"]
        assert -1 < run.val_curve("mcbr/bbox_head.retina_cls")[1][0] < 1
    assert dict(settings(fixnorm))["batch size"] == "4"


@pytest.mark.parametrize(
    ("draw", "part", "key", "label"),
    [(gain, "train", "gain", "g of"), (cross_boundary_risk, "val", "mcbr", "MCBR at")],
)
def test_a_cascade_s_classifiers_can_be_told_apart(tmp_path, draw, part, key, label):
    heads = [f"roi_head.bbox_head.{stage}.fc_cls" for stage in range(3)]
    run = Run("cascade", tmp_path, **{part: {1: {f"{key}/{head}": 0.5 for head in heads}}})
    axes = Figure().add_subplot()
    assert draw(axes, [run])
    labels = [text.get_text() for text in axes.legend().get_texts()]
    assert labels == [f"cascade: {label} fc_cls {stage}" for stage in range(3)]


def test_a_segmenter_s_gains_can_be_told_apart(tmp_path):
    heads = ["decode_head", "auxiliary_head", "auxiliary_head.1"]
    run = Run("seg", tmp_path, train={1: {f"gain/{head}.conv_seg": 1.0 for head in heads}})
    axes = Figure().add_subplot()
    assert gain(axes, [run])
    labels = {text.get_text() for text in axes.legend().get_texts()}
    assert labels == {
        "seg: g of conv_seg",
        "seg: g of conv_seg auxiliary_head",
        "seg: g of conv_seg auxiliary_head 1",
    }


def test_the_page_says_where_a_gain_had_no_time(tmp_path):
    steps = range(10, 210, 10)
    train = {t: {"gain/head.fc": 1.8 + t / 50, "cap/head.fc": 12.65} for t in steps}
    shown = curves([Run("short", tmp_path, train=train)])
    assert "<p>short: head.fc: g rose to the end, from 2 to 5.8" in shown
    assert "g rose" not in curves([Run("few", tmp_path, train=dict(list(train.items())[:5]))])


def test_values_stand_where_their_points_are(tmp_path):
    rates = {100 * t: {"lr": 0.1 - 0.02 * t} for t in range(5)}
    drawn = plotted(learning_rate, [Run("a & b", tmp_path, train=rates)], "light")
    assert [p.says for p in drawn.points] == [
        f"a & b, {t}: {values['lr']:.4g}" for t, values in rates.items()
    ]
    image = np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGBA")).astype(int)
    blue = np.abs(image[..., :3] - [0x2F, 0x6F, 0xBB]).sum(-1) + (image[..., 3] < 200) * 999
    for point in drawn.points:
        y, x = point.top / 100 * image.shape[0], point.left / 100 * image.shape[1]
        near = blue[max(0, round(y) - 4) : round(y) + 5, max(0, round(x) - 4) : round(x) + 5]
        assert near.min() < 60, point
    assert 'title="a &amp; b, 0: 0.1"' in curves([Run("a & b", tmp_path, train=rates)])


def test_the_ticks_of_a_logarithmic_axis_are_numbers(tmp_path):
    axes = Figure().add_subplot()
    train = {t: {"effective_lr": 10.0**-t} for t in range(3, 7)}
    with rc_context({"text.parse_math": False}):
        assert effective_lr(axes, [Run("run", tmp_path, train=train)])
        dress(axes, "light")
        axes.figure.canvas.draw()
        ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert len(ticks) > 2 and all(re.fullmatch(r"1e[-−]\d\d", tick) for tick in ticks)


def test_a_long_curve_has_few_points_to_hover_over(tmp_path):
    run = Run("long", tmp_path, train={t: {"lr": 1.0} for t in range(1, 5001)})
    assert 50 <= len(plotted(learning_rate, [run], "light").points) <= MOST_POINTS


def test_picture_for_the_readme(work_dirs, tmp_path):
    main([str(work_dirs[0]), "--picture", str(tmp_path / "demo.png")])
    picture = Image.open(tmp_path / "demo.png")
    picture.load()
    assert picture.width > 2 * picture.height
    assert (tmp_path / "demo.png").stat().st_size < 400_000


def test_a_run_of_old_without_checkpoint_still_has_its_curves(work_dirs, tmp_path):
    """As one that was trained before its classes and its making were noted."""
    for path in work_dirs[0].rglob("*"):
        if path.name == "scalars.json" or path.suffix == ".py":
            copy = tmp_path / "run" / path.relative_to(work_dirs[0])
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    main([str(tmp_path / "run")])
    page = Page(tmp_path / "run/index.html")
    assert "holds no checkpoint" in page.text
    assert "Nothing was noted of the classes of retinanet" in page.text
    assert "Command, versions and machine of retinanet" in page.text
    assert re.search(r"date\n20\d\d-\d\d-\d\d \d\d:\d\d\n", page.text)
    assert "tools/test.py" not in page.text and "OTHER_WORK_DIR" in page.text
    assert len(page.addresses) == 14


def test_a_run_without_validation_still_has_its_curves(work_dirs, tmp_path):
    run = shutil.copytree(work_dirs[0], tmp_path / "run")
    with next(run.glob("*.py")).open("a") as file:
        file.write("\nval_dataloader = None\n")
    main([str(run)])
    page = Page(run / "index.html")
    assert "has no validation set" in page.text
    assert len(page.addresses) == 14 + 6


def test_captions_fit_what_the_runs_are(work_dirs):
    fixnorm, baseline = (Run.load(folder) for folder in work_dirs)
    alone = " ".join(caption for _, caption in captioned([fixnorm]))
    assert "a level line." in alone and "drifts" not in alone and "no cap" not in alone
    decay = " ".join(caption for _, caption in captioned([baseline]))
    assert "Norm fixing" not in decay and "the norm fixed" not in decay
    assert "min(g, cap)" not in decay and "effective weight is shown" in decay


def test_many_classes_are_folded_and_their_worst_confusions_listed(tmp_path):
    names = [f"class {i}" for i in range(40)]
    counts = np.zeros((41, 41), int)
    counts[3, 4], counts[40, 7], counts[5, 40] = 9, 8, 7
    curve = np.linspace(1, 0, 101).tolist()
    found = dict(iou=0.5, ap=[i / 50 for i in range(40)], precision=[curve] * 40)
    found |= dict(ap_at=found["ap"], precision_at=[curve] * 40)
    noted = dict(classes=names, objects=[1] * 40, kinds=dict(bbox=found, segm=found))
    noted |= dict(confusion=counts.tolist(), score=0.3, iou=0.5)
    run = Run("coco", tmp_path, val={1: dict(bbox_mAP=0.4)}, classes=noted)
    shown = classes([run])
    assert "<summary>41 rows</summary>" in shown and "masks" in shown
    for row in (
        ("class 3", "class 4", 9),
        ("background", "class 7", 8),
        ("class 5", "background", 7),
    ):
        assert "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" in shown
    assert "The 5 with the lowest AP have colours." in shown
    axes = Figure().add_subplot()
    assert class_precision(axes, [run], run, "bbox") and len(axes.lines) == 40
    named = [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]
    assert named == [f"class {i}  {i / 50:.2f}" for i in range(5)]


def log(folder, start, entries):
    path = folder / start / "vis_data/scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(map(json.dumps, entries)) + '\n{"loss": 1, "st')  # cut off
    (folder / "config.py").write_text("model = dict()\ntrain_cfg = dict()\n")


def test_a_resumed_run_is_one_curve(tmp_path):
    def train(step, loss):
        return dict(loss=loss, step=step)

    log(
        tmp_path,
        "20260101_000000",
        [
            train(1, 9.0),
            train(2, 8.0),
            {"coco/bbox_mAP": 0.1, "step": 1},
            train(3, 7.0),
            train(4, 6.0),
        ],
    )
    log(tmp_path, "20260102_000000", [train(3, 5.0), {"coco/bbox_mAP": 0.2, "step": 2}])
    run = Run.load(tmp_path)
    assert run.curve("loss") == ([1, 2, 3], [9.0, 8.0, 5.0])
    assert run.val_curve("bbox_mAP") == ([2, 3], [0.1, 0.2])


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: log(path, "20260101_000000", []),
        lambda path: (
            log(path, "20260101_000000", [dict(loss=1.0, step=1)]),
            (path / "config.py").write_text("a = 1"),
        ),
        lambda path: (
            log(path, "20260101_000000", [dict(loss=1.0, step=1)]),
            (path / "config.py").write_text("a = b"),
        ),
    ],
    ids=["missing", "empty", "no step", "another config", "a broken config"],
)
def test_no_run_is_one_sentence(tmp_path, make):
    make(tmp_path / "run")
    with pytest.raises(NoRun, match="run") as refusal:
        Run.load(tmp_path / "run")
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    assert end.value.code == f"report: {refusal.value}"
    assert not (tmp_path / "page.html").exists()
