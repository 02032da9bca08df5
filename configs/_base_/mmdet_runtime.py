"""The runtime of a detector, as MMDetection's own `default_runtime.py` has it.

ClassRecordHook keeps what an evaluation knows of each class, for the run's page; FreshScoresHook
keeps an evaluation that found nothing from being logged with the AP of the one before.
"""

_base_ = "./default_runtime.py"

default_scope = "mmdet"
custom_imports = dict(imports=["normfix_mm.detection"], allow_failed_imports=False)
default_hooks = dict(
    visualization=dict(type="DetVisualizationHook"),
    class_record=dict(type="ClassRecordHook"),
    fresh_scores=dict(type="FreshScoresHook"),
)
visualizer = dict(type="DetLocalVisualizer", name="visualizer", vis_backends=_base_.vis_backends)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
