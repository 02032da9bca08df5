"""OCNet (Base-OC) from scratch on handwritten digits: weight decay, no norm fixing, free gains.

Command: make demo-seg DEMO_ARGS=--baseline, or after tools/make_digits.py
    python tools/train.py configs/demo/ocnet_r18-d8_baseline_1xb8-1k_digits.py
Run time: about four minutes on two CPU cores.
Expected result: a curve to see beside FixNorm's; see README, which has FixNorm's mIoU.
Source: FixNorm, appendix A.4.2, on a model and data of toy size.

Digits are 28 to 51 pixels wide, so the backbone's second stride is left out: 4 pixels a feature,
not 8. With 8, at half the width, on whole or enlarged pictures, at rates from .03 to .12, mIoU
stayed below .13 for the first 320 iterations, and those runs were given up; with 4 and this rate,
the first that was tried, it was .33 at 500.
"""

_base_ = [
    "../_base_/models/ocnet_r18-d8.py",
    "../_base_/datasets/digits_segmentation.py",
    "../_base_/schedules/schedule_800iters.py",
    "../_base_/mmseg_runtime_small.py",
]
custom_imports = dict(imports=["normfix_mm.segmentation"], allow_failed_imports=False)

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
custom_hooks = [dict(type="NormMonitorHook", layers=["decode_head.conv_seg"])]
