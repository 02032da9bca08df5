"""OCNets in MMSegmentation, whole or narrow."""

import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import normfix_mm.segmentation  # noqa: F401  registers heads, backbone and losses

NARROW = dict(depth=50, base_channels=8, stem_channels=16)


def ocnet_config(context="base", classes=19, channels=512, backbone=None, **head):
    """An OCNet: the R-101 of the paper, or the backbone with these options."""
    backbone = backbone or {}
    loss = dict(type="WeightedCrossEntropyLoss")
    wide = backbone.get("base_channels", 64)
    leaky = dict(type="LeakyReLU", negative_slope=0.01)
    return dict(
        type="EncoderDecoder",
        data_preprocessor=dict(type="SegDataPreProcessor"),
        backbone=dict(type="DilatedResNetV1c", **backbone),
        decode_head=dict(
            type="OCHead",
            in_channels=32 * wide,
            channels=channels,
            context=context,
            num_classes=classes,
            loss_decode=loss,
            **head,
        ),
        auxiliary_head=dict(
            type="FCNHead",
            in_channels=16 * wide,
            in_index=2,
            channels=channels,
            num_convs=1,
            concat_input=False,
            num_classes=classes,
            dropout_ratio=0.05,
            norm_cfg=dict(type="BN"),
            act_cfg=None if context == "pyramid" else leaky,
            align_corners=True,
            loss_decode=loss | dict(loss_weight=0.4),
        ),
        test_cfg=dict(mode="whole"),
    )


def build(config):
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(config)


def narrow_ocnet(context="base", **head):
    torch.manual_seed(0)
    return build(ocnet_config(context, classes=5, channels=24, backbone=NARROW, **head))


def samples(labels):
    """Data samples of label maps, shape (N, H, W)."""
    return [
        SegDataSample(
            gt_sem_seg=PixelData(data=each[None]),
            metainfo=dict(img_shape=tuple(each.shape), ori_shape=tuple(each.shape)),
        )
        for each in labels
    ]
