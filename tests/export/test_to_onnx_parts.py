"""What is written again for a trace computes what the framework's own code does."""

import importlib

import pytest
import torch
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from normfix_mm.export.to_onnx.boxes import RoIFeatures, paste
from normfix_mm.export.to_onnx.detectors import traceable
from normfix_mm.export.to_onnx.images import Images
from normfix_mm.export.to_onnx.layers import MeanPool, SamePadding, follow_sizes

NORM = dict(mean=[123.0, 116.0, 103.0], std=[58.0, 57.0, 56.0])


def boxes(count: int, height: int, width: int) -> torch.Tensor:
    """Some reach out of the image."""
    corner = torch.rand(count, 2) * torch.tensor([width, height]) - 5
    return torch.cat([corner, corner + 3 + torch.rand(count, 2) * width], 1)


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("mmdet", dict(**NORM, bgr_to_rgb=True, pad_size_divisor=32, pad_value=7)),
        ("mmdet", {}),
        ("mmseg", dict(**NORM, bgr_to_rgb=True)),
        ("mmseg", dict(**NORM, size=(512, 512), pad_val=5, test_cfg=dict(size_divisor=16))),
        ("mmpretrain", dict(**NORM, to_rgb=True)),
        ("mmpretrain", dict(pad_size_divisor=8, pad_value=3)),
    ],
)
def test_images_are_prepared_as_by_the_data_preprocessor(package, options):
    kinds = dict(
        mmdet=("DetDataPreprocessor", "DetDataSample"),
        mmseg=("SegDataPreProcessor", "SegDataSample"),
        mmpretrain=("ClsDataPreprocessor", "DataSample"),
    )
    models = pytest.importorskip(f"{package}.models")
    preprocessor = getattr(models, kinds[package][0])(**options)
    sample = getattr(importlib.import_module(f"{package}.structures"), kinds[package][1])()
    image = torch.randint(0, 256, (3, 45, 70), dtype=torch.uint8)
    expected = preprocessor(dict(inputs=[image], data_samples=[sample]))["inputs"]
    torch.testing.assert_close(Images(preprocessor)(image[None]), expected)


def test_masks_are_pasted_as_mmdetection_pastes_them():
    torch.manual_seed(0)
    masks, where = torch.rand(40, 28, 28), boxes(40, 60, 90)
    expected, _ = _do_paste_mask(masks[:, None], where, 60, 90, skip_empty=False)
    torch.testing.assert_close(paste(masks, where, 60, 90), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_features_of_regions_come_from_their_levels(aligned, sampling_ratio):
    torch.manual_seed(0)
    layer = dict(
        type="RoIAlign", output_size=7, sampling_ratio=sampling_ratio, aligned=aligned
    )  # fmt: skip
    stock = SingleRoIExtractor(layer, 4, [4, 8, 16, 32])
    features = [torch.randn(1, 4, 128 // stride, 160 // stride) for stride in (1, 2, 4, 8)]
    regions = torch.cat([torch.zeros(50, 1), boxes(50, 500, 600)], 1)
    assert stock.map_roi_levels(regions, 4).unique().numel() == 4
    torch.testing.assert_close(RoIFeatures(stock)(features, regions), stock(features, regions))
    one = SingleRoIExtractor(layer, 4, [4])
    torch.testing.assert_close(RoIFeatures(one)(features, regions), one(features[:1], regions))


@pytest.mark.parametrize("size", [3, (2, 6), (None, 4), 1])
@pytest.mark.parametrize("shape", [(7, 9), (6, 6), (2, 23)])
def test_means_are_those_of_adaptive_pooling(size, shape):
    x = torch.randn(2, 3, *shape)
    torch.testing.assert_close(MeanPool(size)(x), nn.AdaptiveAvgPool2d(size)(x))


@pytest.mark.parametrize("shape", [(7, 9), (16, 31)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 2), (1, 2, 1)]
)
def test_a_trace_pads_as_tensorflow_does_at_any_size(kernel, stride, dilation, shape):
    layer = Conv2dAdaptivePadding(4, 4, kernel, stride, dilation=dilation, groups=2).eval()
    model = nn.Sequential(layer)
    follow_sizes(model)
    assert isinstance(model[0], SamePadding)
    traced = torch.jit.trace(model, torch.randn(1, 4, 20, 20), check_trace=False)
    x = torch.randn(2, 4, *shape)
    torch.testing.assert_close(traced(x), layer(x))


DENSE = {
    "FCOS": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "ATSS": "atss/atss_r50_fpn_1x_coco.py",
    "GFL": "gfl/gfl_r50_fpn_1x_coco.py",
}


@pytest.mark.parametrize("name", DENSE)
def test_the_other_one_stage_detectors_are_followed_too(name):
    torch.manual_seed(0)
    cfg = Config.fromstring(f"_base_ = 'mmdet::{DENSE[name]}'\n", ".py").model
    cfg.backbone.update(
        depth=18, base_channels=8, stem_channels=8, frozen_stages=-1, init_cfg=None,
        norm_cfg=dict(type="BN"), style="pytorch",
    )  # fmt: skip
    cfg.neck.update(in_channels=[8, 16, 32, 64], out_channels=32)
    cfg.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=1, num_classes=3)
    cfg.test_cfg.update(score_thr=0.0, nms_pre=50, max_per_img=30)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg).eval()
    for layer in model.bbox_head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.1)
    image = torch.randint(0, 256, (3, 90, 130), dtype=torch.uint8)
    shape = dict(img_shape=(90, 130), ori_shape=(90, 130), scale_factor=(1, 1))
    data = dict(inputs=[image], data_samples=[DetDataSample(metainfo=shape)])
    with torch.no_grad():
        expected = model.test_step(data)[0].pred_instances
        found = dict(zip(("bboxes", "scores", "labels"), traceable(model)(image[None])))
    assert len(expected) >= 10 and expected.scores.std() > 1e-3
    for field, value in found.items():
        torch.testing.assert_close(value, expected[field], rtol=1e-4, atol=1e-3)
