"""A small RetinaNet on toy data for the preflight, and the sentence it ends with."""

import pytest
from mmdet.models import RetinaNet
from mmdet.registry import MODELS

from normfix_mm.errors import BadInput
from normfix_mm.preflight import check

CLASSES = ("disc", "box")
STOCK = """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['normfix_mm.detection'], allow_failed_imports=False)
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
    bbox_head=dict(num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1))
"""


@MODELS.register_module(force=True)
class RetinaMaskNet(RetinaNet):
    """Stands for a detector that predicts masks, in checks of data."""


def sentence(cfg, phases=("train", "val", "test"), contents=True) -> str:
    """The one sentence that a bad config gets."""
    with pytest.raises(BadInput) as caught:
        check(cfg, phases, contents=contents)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text
