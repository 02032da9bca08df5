"""A small folder of images and label images as the data of a run from scratch, and its schedule.

Root, class names and file endings are filled in by normfix_mm.datasets.seg_folder. Training and
prediction are at half of 480x360; IoU is measured on the labels at their full size.
"""

default_scope = "mmseg"
custom_imports = dict(imports=["normfix_mm.segmentation"], allow_failed_imports=False)

scale = (240, 180)
crop_size = (180, 240)
load = dict(type="LoadImageFromFile")
annotate = dict(type="LoadAnnotations")
train_pipeline = [
    load,
    annotate,
    dict(type="RandomResize", scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=1.0),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    load,
    dict(type="Resize", scale=scale, keep_ratio=True),
    annotate,
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="BaseSegDataset", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="BaseSegDataset", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ClassIoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

# Schedule: warm-up over the first 50 iterations, poly to zero.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=800, val_interval=800)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=5e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=800),
]
custom_hooks = [dict(type="WeightTableHook"), dict(type="ReproducibleHook")]
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=100, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="SegLocalVisualizer", vis_backends=vis_backends)
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(opencv_num_threads=0), dist_cfg=dict(backend="nccl")
)
log_processor = dict(by_epoch=False)
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0)
auto_scale_lr = dict(enable=False, base_batch_size=4)
