"""A row with the ε-shift and its baseline differ in the ε-shifted weights alone."""

import copy
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIFTED = sorted([*CONFIGS.glob("*/*_ws-eps_*.py"), *CONFIGS.glob("*/*_wn-eps_*.py")])


def treatment(path: Path) -> tuple[dict[str, dict], set[str]]:
    """The optimizer's options of each parameter that trains; which of them are ε-shifted."""
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        # MMPretrain's networks read numbers off tensors while they are built.
        with torch.device("cpu" if cfg.default_scope == "mmpretrain" else "meta"):
            model = MODELS.build(copy.deepcopy(cfg.model))
        optimizer = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper)).optimizer
    names = {param: name for name, param in model.named_parameters()}
    options = {
        names[param]: {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
        for param in group["params"]
        if param.requires_grad
    }
    regularizer = getattr(optimizer, "eps_shift", None)
    infos = regularizer.infos if regularizer else []
    return options, {info.name for info in infos if info.param.requires_grad}


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIFTED, ids=lambda path: path.stem)
def test_everything_but_the_shifted_weights_is_treated_as_in_the_baseline(path):
    ours, shifted = treatment(path)
    baseline, none = treatment(path.with_name(re.sub("_w[sn]-eps_", "_baseline_", path.name)))
    assert shifted and not none
    gains = {name for name in ours if name.endswith(".g")} - baseline.keys()
    ours = {name: options for name, options in ours.items() if name not in gains}
    assert ours.keys() == baseline.keys()
    others = ours.keys() - shifted
    assert any(name.endswith(".bias") for name in others)
    assert {name: ours[name] for name in others} == {name: baseline[name] for name in others}
    # The ε-shift takes the place of the decay, with the same λ.
    decay = Config.fromfile(path).optim_wrapper
    assert decay.paramwise_cfg.eps_shift.lam == decay.optimizer.weight_decay
    assert all(ours[n] == baseline[n] | dict(weight_decay=0.0) for n in shifted)


def test_there_are_such_rows_in_every_family_with_the_eps_shift():
    assert {path.parent.name for path in SHIFTED} == {
        "cascade_rcnn", "class_folder", "coco_folder", "faster_rcnn", "from_imagenet",
        "mask_rcnn", "seg_folder",
    }  # fmt: skip
