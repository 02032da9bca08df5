"""Runs of kinds that this package has no config of get their page, with what is known of them."""

import json
import math

import pytest

from normfix_mm.report.page import build
from normfix_mm.report.run import Run, settings

BASE = dict(
    train_cfg="dict(max_epochs=1)",
    train_dataloader="dict(batch_size=2)",
    optim_wrapper="dict(optimizer=dict(type='SGD', lr=.1))",
    default_scope="'mmdet'",
    model="dict(type='RetinaNet', backbone=dict(type='ResNet'))",
)
TRAINED = [dict(loss=1.0, step=1), dict(loss=0.9, step=2)]


def run(folder, lines=TRAINED, **config) -> Run:
    (folder / "1/vis_data").mkdir(parents=True)
    text = "\n".join(f"{key} = {value}" for key, value in (BASE | config).items())
    (folder / "config.py").write_text(text)
    (folder / "1/vis_data/scalars.json").write_text("\n".join(map(json.dumps, lines)))
    return Run.load(folder)


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        (dict(model="dict(type='SoftTeacher', detector=dict(type='FasterRCNN'))"), "SoftTeacher"),
        (
            dict(
                optim_wrapper="dict(constructor='Own', a=dict(optimizer=dict(type='SGD', lr=.1)), "
                "b=dict(optimizer=dict(type='AdamW', lr=.2)))"
            ),
            "SGD, lr 0.1; AdamW, lr 0.2",
        ),
        (dict(train_dataloader="dict(batch_sampler=dict(type='Own', batch_size=2))"), "Own"),
        (dict(optim_wrapper="None"), "RetinaNet"),
        (dict(default_scope="'mmrotate'"), "No pictures: "),
    ],
)
def test_the_page_is_made(tmp_path, config, shown):
    assert shown in build([run(tmp_path, **config)], "python -m normfix_mm.report")


def test_the_metric_of_pascal_voc_is_shown(tmp_path):
    lines = [*TRAINED, {"pascal_voc/mAP": 0.7, "pascal_voc/AP50": 0.8, "step": 1}]
    found = run(tmp_path, lines)
    assert found.results() == {"mAP": 0.7}
    assert "No evaluation has been logged yet" not in build([found], "")


def test_a_run_that_diverged_has_its_curves_as_far_as_they_are_numbers(tmp_path):
    lines = [
        *TRAINED,
        dict(loss=math.inf, joint_norm=math.inf, step=3),
        dict(loss=math.nan, step=4),
    ]
    found = run(tmp_path, [dict(entry, joint_norm=entry.get("joint_norm", 2.0)) for entry in lines])
    assert found.curve("loss") == ([1, 2], [1.0, 0.9])
    assert found.curve("joint_norm")[0] == [1, 2, 4]
    assert build([found], "").count("<figure>") >= 2
    assert dict(settings(found))["batch size"] == "2"


def test_runs_of_one_config_s_name_are_told_apart_by_their_folders():
    from normfix_mm.report.__main__ import _apart

    dirs = ["/a/decay/trials/lr0.1", "/a/fixnorm/trials/lr0.2", "/a/fixnorm/trials/lr0.1"]
    assert _apart(dirs) == ["decay/lr0.1", "fixnorm/lr0.2", "fixnorm/lr0.1"]
    assert _apart(["/a/b", "/a/b/c"]) == ["/a/b", "c"]
    assert _apart(["/a/b", "/a/b"]) == ["/a/b", "/a/b"]
