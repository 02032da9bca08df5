"""A small COCO-format folder as the data of a run from scratch, boxes only, and its short schedule.

Root, class names and files are filled in by normfix_mm.datasets.coco_folder. Pipelines are made
of the pieces below, which other configs take up with ``_base_.load`` and so on.
"""

_base_ = "mmdet::_base_/default_runtime.py"
custom_imports = dict(imports=["normfix_mm.detection"], allow_failed_imports=False)

scale = (320, 240)
load = dict(type="LoadImageFromFile")
resize = dict(type="Resize", scale=scale, keep_ratio=True)
flip = dict(type="RandomFlip", prob=0.5)
annotate = dict(type="LoadAnnotations", with_bbox=True)
pack = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
)
train_pipeline = [load, annotate, resize, flip, dict(type="PackDetInputs")]
test_pipeline = [load, resize, annotate, pack]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset", filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CocoDataset", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator

# Schedule: warm-up over the first 26 iterations, a tenth of the rate from epoch 7 on.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=8, val_interval=8)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=26),
    dict(type="MultiStepLR", by_epoch=True, milestones=[6], gamma=0.1),
]
custom_hooks = [dict(type="WeightTableHook"), dict(type="ReproducibleHook")]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2))
randomness = dict(seed=0)
auto_scale_lr = dict(enable=False, base_batch_size=8)
