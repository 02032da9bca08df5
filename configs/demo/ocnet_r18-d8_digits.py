"""What the segmentation demo's two runs share: data, model, schedule. Not a config to train itself.

OCNet (Base-OC) from scratch on a thin dilated ResNet-18. Digits are 28 to 51 pixels wide, so the
backbone's second stride is left out: 4 pixels a feature, not 8. With 8, at half the width, on whole
or enlarged pictures, at rates from .03 to .12, mIoU stayed below .13 for the first 320 iterations,
and those runs were given up; with 4 and this rate, the first that was tried, it was .33 at 500.
"""

_base_ = "../seg_folder/ocnet_r18-d8_baseline_1xb4-800.py"
custom_imports = dict(
    imports=["normfix_mm.segmentation", "normfix_mm.report"], allow_failed_imports=False
)

# Data: made by tools/make_digits.py.
data_root = "data/digits/"
classes = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "background")
load = dict(type="LoadImageFromFile")
annotate = dict(type="LoadAnnotations")
pack = dict(type="PackSegInputs")
shift = dict(type="RandomCrop", crop_size=(112, 112), cat_max_ratio=1.0)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path="images/train", seg_map_path="labels/train"),
        metainfo=dict(classes=classes),
        pipeline=[load, annotate, shift, pack],
    ),
)
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path="images/val", seg_map_path="labels/val"),
        metainfo=dict(classes=classes),
        pipeline=[load, annotate, pack],
    ),
)
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(mean=[128.0] * 3, std=[64.0] * 3, size=(112, 112)),
    backbone=dict(base_channels=16, stem_channels=16, strides=(1, 1, 1, 1)),
    decode_head=dict(in_channels=128, channels=64, num_classes=11),
    auxiliary_head=dict(in_channels=64, channels=32, num_classes=11),
)

# Schedule
train_cfg = dict(max_iters=1000, val_interval=250)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=1000),
]
default_hooks = dict(checkpoint=dict(interval=250))
auto_scale_lr = dict(base_batch_size=8)
