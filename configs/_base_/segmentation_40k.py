"""40,000 iterations of SGD with OCNet's polynomial rate, which ends at zero, and the run's rest."""

optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4)
)
# (1 - t/40000)^0.9; with end=40000, MMEngine's rate would be zero in the last iteration.
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, begin=0, end=40001, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=4000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(enable=False, base_batch_size=8)

default_scope = "mmseg"
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=4000),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
)
visualizer = dict(
    type="SegLocalVisualizer", name="visualizer", vis_backends=[dict(type="LocalVisBackend")]
)
log_processor = dict(by_epoch=False)
log_level = "INFO"
load_from = None
resume = False
