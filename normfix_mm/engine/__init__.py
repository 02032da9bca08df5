"""mmengine: layers in its registries, the optimizer constructor and the hooks.

Importing this package registers everything under unique names in mmengine's root registries,
where mmdet, mmseg and mmpretrain all find it. It also makes mmengine's loading of checkpoints
safe, see ``normfix_mm.checkpoints.mmengine_loading``.
"""

import normfix_mm.checkpoints.mmengine_loading  # noqa: F401  registers, like those below
from normfix_mm.engine.hooks.as_trained import AsTrainedHook
from normfix_mm.engine.hooks.class_record import ClassRecordHook
from normfix_mm.engine.hooks.cross_boundary_risk import CrossBoundaryRiskHook
from normfix_mm.engine.hooks.early_word import EarlyWordHook
from normfix_mm.engine.hooks.finite_weights import FiniteWeightsHook
from normfix_mm.engine.hooks.fresh_scores import FreshScoresHook
from normfix_mm.engine.hooks.norm_fix import NormFixHook
from normfix_mm.engine.hooks.norm_monitor import NormMonitorHook
from normfix_mm.engine.hooks.reproducible import ReproducibleHook
from normfix_mm.engine.hooks.run_record import RunRecordHook
from normfix_mm.engine.hooks.weight_table import WeightTableHook
from normfix_mm.engine.optim_wrapper_constructor import EpsShiftOptimWrapperConstructor
from normfix_mm.engine.registry import LAYERS

__all__ = [
    "LAYERS",
    "AsTrainedHook",
    "ClassRecordHook",
    "CrossBoundaryRiskHook",
    "EarlyWordHook",
    "EpsShiftOptimWrapperConstructor",
    "FiniteWeightsHook",
    "FreshScoresHook",
    "NormFixHook",
    "NormMonitorHook",
    "ReproducibleHook",
    "RunRecordHook",
    "WeightTableHook",
]
