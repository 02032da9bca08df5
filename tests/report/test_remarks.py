"""What a page says of single classes: a colour each, and a sentence where one is hardly found."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer

from normfix_mm.report import boxes, plots
from normfix_mm.report.classes import remarks
from normfix_mm.report.markup import STYLE
from normfix_mm.report.run import Run, scalars

NAMES = ["cat", "dog", "fly"]


def run(ap, confusion, small=0.0, large=0.5, names=NAMES) -> Run:
    """Of detectors, with an AP a class, and the AP of small and of large objects."""
    last = dict(bbox_mAP=float(np.mean(ap)), bbox_mAP_s=small, bbox_mAP_m=-1.0, bbox_mAP_l=large)
    curve = np.linspace(1, 0, 11).tolist()
    found = dict(ap=ap, ap_at=ap, iou=0.5, precision=[curve] * len(ap))
    found["precision_at"] = found["precision"]
    known = dict(classes=names, kinds=dict(bbox=found), confusion=confusion)
    return Run("ours", Path("x"), {1: {}}, {10: last}, classes=known)


SEEN = [[9, 0, 0, 1], [0, 9, 0, 1], [0, 0, 0, 10], [0, 0, 0, 0]]
LOOKALIKE = [*SEEN[:2], [8, 0, 0, 2], SEEN[3]]


@pytest.mark.parametrize(
    ("confusion", "small", "words"),
    [
        (SEEN, 0.0, "not found; where they are small, larger pictures help: a larger --size"),
        (SEEN, 0.4, "its objects are not found; give more pictures of them, or time."),
        (SEEN, -1.0, "its objects are not found; give more pictures of them, or time."),
        (LOOKALIKE, 0.0, "it is taken for 'cat': they look alike, or are labelled so."),
    ],
)
def test_a_class_that_is_hardly_found_gets_the_remedy_that_fits(confusion, small, words):
    (said,) = remarks(run([0.5, 0.6, 0.01], confusion, small), "bbox")
    assert said.startswith("ours: AP of 'fly' is 0.010; ") and words in said


def test_small_objects_that_are_not_found_are_said_where_no_class_is_low():
    (said,) = remarks(run([0.5, 0.6, 0.3], SEEN), "bbox")
    assert said.startswith("ours: AP small is 0.000; larger pictures help")
    assert remarks(run([0.5, 0.6, 0.3], SEEN, small=0.2), "bbox") == []
    assert remarks(run([0.5, 0.6, 0.3], SEEN, small=-1.0), "bbox") == []


def test_where_nothing_is_found_one_sentence_is_enough():
    assert remarks(run([0.01, 0.02, 0.0], SEEN), "bbox") == [
        "ours: AP is 0.010: hardly anything is found; train longer."
    ]


@pytest.mark.parametrize("count", [3, 12])
def test_a_class_has_one_colour_in_pictures_and_curves(count, monkeypatch):
    framed = []
    monkeypatch.setattr(
        Visualizer, "draw_bboxes", lambda self, at, edge_colors, **_: framed.extend(edge_colors)
    )
    names = [f"class {i}" for i in range(count)]
    colours = plots.class_colours(count)
    assert len(set(colours)) == count
    ap = [0.5 - 0.01 * i for i in range(count)]
    ours = run(ap, [[0] * (count + 1)] * (count + 1), names=names)
    axes = Figure().add_subplot()
    plots.class_precision(axes, [ours], ours, "bbox")
    drawn = {line.get_label().split("  ")[0]: line.get_color() for line in axes.get_lines()}
    for index in (count - 1, count - 2):  # of the lowest, which always have one
        assert drawn[names[index]] == pytest.approx(np.divide(colours[index], 255))
        objects = InstanceData(bboxes=np.array([[40.0, 40, 360, 360]]), labels=np.array([index]))
        boxes._paint(np.zeros((400, 400, 3), np.uint8), tuple(names), objects)
        assert framed.pop() == colours[index]


def test_an_evaluation_is_after_all_iterations_of_its_epoch(tmp_path):
    folder = tmp_path / "20261128_000000/vis_data"
    folder.mkdir(parents=True)
    entries = [dict(loss=1.0, step=step) for step in (10, 20, 30)] + [dict(mAP=0.1, step=1)]
    entries += [dict(loss=1.0, step=step) for step in (47, 57, 67)] + [dict(mAP=0.2, step=2)]
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "scalars.json").write_text(text)
    (folder.parent / "log.log").write_text("Epoch(train)  [1][10/37]  lr: 1\n")
    train, val = scalars(tmp_path)
    assert list(val) == [37, 74]
    assert Run("x", tmp_path, train, val).iterations == 74
    (folder.parent / "log.log").write_text("Iter(train) [10/37]  lr: 1\n")
    assert list(scalars(tmp_path)[1]) == [30, 67]


def test_a_table_that_is_cut_off_has_a_shadow_at_the_side():
    (style,) = re.findall(r"\n\.wide \{(.*?)\}", STYLE, re.S)
    assert style.count("var(--shade), transparent") == style.count(" local") == 2
