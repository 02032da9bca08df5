"""bfloat16, for which mmcv has no kernels, is refused where the model would meet one of them."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from normfix_mm.errors import BadInput
from normfix_mm.models.build import build_model
from normfix_mm.preflight.precision import check_half

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
    checked(RETINANET, **wrapper)
