"""The runtime of a classifier, as MMPretrain's own `default_runtime.py` has it."""

_base_ = "./default_runtime.py"

default_scope = "mmpretrain"
custom_imports = dict(imports=["normfix_mm.classification"], allow_failed_imports=False)
default_hooks = dict(
    logger=dict(interval=100),
    checkpoint=dict(max_keep_ckpts=2),
    visualization=dict(type="VisualizationHook", enable=False),
)
env_cfg = dict(cudnn_benchmark=True)
visualizer = dict(type="UniversalVisualizer", vis_backends=_base_.vis_backends)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
randomness = dict(seed=0)
