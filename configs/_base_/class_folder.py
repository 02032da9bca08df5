"""A small folder of images by class as the data of a run from scratch, and its short schedule.

Root, class names and lists are filled in by normfix_mm.datasets.class_folder.
"""

_base_ = "./classification.py"

size = 64
load = dict(type="LoadImageFromFile")
pack = dict(type="PackInputs")
train_pipeline = [
    load,
    dict(type="RandomResizedCrop", scale=size, crop_ratio_range=(0.4, 1.0)),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    pack,
]
test_pipeline = [load, dict(type="Resize", scale=(size, size)), pack]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="CustomDataset", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CustomDataset", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ClassAccuracyMetric", topk=(1, 5))
test_evaluator = val_evaluator

# Schedule: two epochs of warm-up, then one cosine to zero.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=20, val_interval=2)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, end=2, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=18,
        begin=2,
        end=20,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    dict(type="NormMonitorHook", layers=("head.fc",), weights="conv"),
    dict(type="CrossBoundaryRiskHook"),
    dict(type="WeightTableHook"),
    dict(type="ReproducibleHook"),
]
default_hooks = dict(logger=dict(interval=10))
auto_scale_lr = dict(enable=False, base_batch_size=32)
