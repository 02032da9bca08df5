"""bfloat16, for which mmcv has no kernels, is refused where the model would meet one of them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from normfix_mm.errors import BadInput
from normfix_mm.models.build import build_model
from normfix_mm.preflight.precision import check_half
from normfix_mm.run.command_line import set_training

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RETINANET = "coco_folder/retinanet_r18_fpn_fixnorm_1xb8-8e_folder.py"
MASK_RCNN = "coco_folder/mask-rcnn_r18_fpn_fixnorm_1xb4-8e_folder.py"
OCNET = "seg_folder/ocnet_r18-d8_fixnorm_1xb4-800iters_folder.py"


def checked(name: str, **wrapper) -> None:
    cfg = Config.fromfile(CONFIGS / name)
    cfg.optim_wrapper.update(type="AmpOptimWrapper", **wrapper)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        check_half(cfg, build_model(cfg))


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "operator"),
    [(RETINANET, r"FocalLoss \(bbox_head.loss_cls\)"), (MASK_RCNN, r"RoIAlign \(roi_head")],
)
def test_bfloat16_is_refused_with_the_operators_that_lack_it(name, operator, dtype):
    with pytest.raises(BadInput, match=operator + r".*optim_wrapper.dtype='float16'"):
        checked(name, dtype=dtype)


def test_a_model_without_such_operators_takes_bfloat16():
    checked(OCNET, dtype="bfloat16")


@pytest.mark.parametrize("wrapper", [{}, dict(dtype="float16"), dict(loss_scale="dynamic")])
def test_float16_passes(wrapper):
    checked(RETINANET, **wrapper, optimizer=dict(type="SGD", fused=False, momentum=0.9))
    checked(RETINANET, **wrapper, optimizer=dict(type="SGD", fused=True, momentum=0))


def test_float16_is_refused_with_a_fused_sgd_that_has_momentum():
    """torch's own fault, as it is here: one value of the momentum was never written."""
    with pytest.raises(BadInput, match="uninitialized momentum.*fused=False"):
        checked(RETINANET)  # whose schedule is fused
    weights = [torch.nn.Parameter(torch.ones(1000)) for _ in range(5)]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(sum(weight.sum() for weight in weights)).backward()
    weights[0].grad.fill_(float("inf"))
    scaler.step(optimizer)
    assert all(bool((weight == 1).all()) for weight in weights)  # the step was skipped …
    assert "momentum_buffer" in optimizer.state[weights[0]]  # … and left a momentum all the same


def test_the_amp_flag_leaves_fused_sgd_out():
    cfg = Config.fromfile(CONFIGS / RETINANET)
    set_training(cfg, SimpleNamespace(amp=True, auto_scale_lr=False))
    assert cfg.optim_wrapper.type == "AmpOptimWrapper" and not cfg.optim_wrapper.optimizer.fused
