"""The runtime of a detector, as MMDetection's own `default_runtime.py` has it."""

_base_ = "./default_runtime.py"

default_scope = "mmdet"
custom_imports = dict(imports=["normfix_mm.detection"], allow_failed_imports=False)
default_hooks = dict(visualization=dict(type="DetVisualizationHook"))
visualizer = dict(type="DetLocalVisualizer", name="visualizer", vis_backends=_base_.vis_backends)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
