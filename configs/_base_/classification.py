"""What every classification config shares: the scope, the hooks, the log."""

default_scope = "mmpretrain"
custom_imports = dict(imports=["normfix_mm.classification"], allow_failed_imports=False)

custom_hooks = [dict(type="WeightTableHook"), dict(type="ReproducibleHook")]
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=100),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="VisualizationHook", enable=False),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="UniversalVisualizer", vis_backends=vis_backends)
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(opencv_num_threads=0), dist_cfg=dict(backend="nccl")
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0)
