"""The runtime of a segmenter, which counts iterations, as MMSegmentation's own has it."""

_base_ = "./default_runtime.py"

default_scope = "mmseg"
custom_imports = dict(imports=["normfix_mm.segmentation"], allow_failed_imports=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False),
    visualization=dict(type="SegVisualizationHook"),
)
env_cfg = dict(cudnn_benchmark=True)
visualizer = dict(type="SegLocalVisualizer", vis_backends=_base_.vis_backends)
log_processor = dict(by_epoch=False)
