"""mmengine: layers in its registries, the optimizer constructor and the hooks.

Importing this package registers everything under unique names in mmengine's root registries,
where mmdet, mmseg and mmpretrain all find it.
"""

from .compat import allow_history_buffers
from .eps_shift_constructor import EpsShiftOptimWrapperConstructor
from .norm_fix_hook import NormFixHook
from .registry import LAYERS
from .reproducible_hook import ReproducibleHook
from .weight_table_hook import WeightTableHook

allow_history_buffers()

__all__ = [
    "LAYERS",
    "EpsShiftOptimWrapperConstructor",
    "NormFixHook",
    "ReproducibleHook",
    "WeightTableHook",
]
