"""The layers under their class names in mmengine's root registries.

The root, because a type known only to mmdet's registry is not found under mmseg's scope. After
this module `conv_cfg=dict(type='WNConv2d', gain=True)` and `cls_predictor_cfg=dict(type=
'FixNormLinear', alpha=1.0)` work wherever OpenMMLab takes such a dictionary.
"""

from mmengine.registry import MODELS

from normfix_mm.layers.fixnorm import FixNormConv2d, FixNormLinear
from normfix_mm.layers.standardized import CWNConv2d, WSConv2d
from normfix_mm.layers.weight_norm import (
    WNConv2d,
    WNConvTranspose2d,
    WNLinear,
    WNPointwiseConv2d,
)

LAYERS = (
    WSConv2d,
    WNConv2d,
    CWNConv2d,
    WNLinear,
    WNPointwiseConv2d,
    WNConvTranspose2d,
    FixNormConv2d,
    FixNormLinear,
)

for layer in LAYERS:
    # `force`: importing this module a second time (importlib.reload) is no error.
    MODELS.register_module(name=layer.__name__, module=layer, force=True)
