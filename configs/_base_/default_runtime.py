"""What every run shares: hooks, environment, logs. The frameworks' own parts build on it.

Three hooks of this package stand here, beside MMEngine's, for all configs:
- WeightTableHook prints, before the first iteration, what every parameter gets.
- ReproducibleHook makes a resumed run equal the uninterrupted one.
- CrossBoundaryRiskHook logs FixNorm's MCBR of the classifiers with every evaluation.
- RunRecordHook notes for the run's page how it was made.
"""

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    weight_table=dict(type="WeightTableHook"),
    reproducible=dict(type="ReproducibleHook"),
    risk=dict(type="CrossBoundaryRiskHook"),
    run_record=dict(type="RunRecordHook"),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
vis_backends = [dict(type="LocalVisBackend")]
log_level = "INFO"
load_from = None
resume = False
