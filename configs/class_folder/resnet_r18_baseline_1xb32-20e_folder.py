"""ResNet-18 of half width, from scratch on a small folder of images by class: ordinary decay.

Command (path and classes are given once; the classes default to the folder's):
    python tools/train_folder.py \
        configs/class_folder/resnet_r18_baseline_1xb32-20e_folder.py FOLDER
    python tools/compare.py FOLDER --model resnet_r18    # this against WS + ε-shift and FixNorm
FOLDER holds {train,val}/CLASS/ with images, or CLASS/, of which a fifth is then for validation.
Run time: .2 s an iteration of 32 images on one CPU core.
Expected: not measured.
Source: MMPretrain's ResNet-18; schedule and label smoothing as in FixNorm, section 3.

Biases and norms do not decay, here and in the rows that this one is compared with.
"""

_base_ = [
    "../_base_/mmpretrain_runtime.py",
    "../_base_/datasets/class_folder.py",
    "../_base_/schedules/schedule_one_cycle_20e.py",
]

model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(
        type="ClsDataPreprocessor",
        num_classes=10,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(type="ResNet", depth=18, base_channels=32, stem_channels=32),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=256,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
        topk=(1, 5),
        # torch's own deviation for 256 features; MMPretrain's .01 is made for 2048.
        init_cfg=dict(type="Normal", layer="Linear", std=0.036),
    ),
)
default_hooks = dict(logger=dict(interval=10))
custom_hooks = [
    dict(type="NormMonitorHook", layers=("head.fc",), weights="conv"),
]
