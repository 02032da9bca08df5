"""MMSegmentation's backbones with normalized convolutions: ``Normalized<X>`` for each backbone X.

    default_scope = 'mmseg'
    backbone=dict(type='NormalizedResNetV1c', depth=101, ...)        or 'mmseg.NormalizedResNetV1c'

``normfix_mm.engine.backbones`` says what they do.

Where the names live. MMSegmentation and MMDetection have seven backbones of one name (ResNet,
ResNetV1d, ResNeXt, ResNeSt, HRNet, MobileNetV2, SwinTransformer) that are not the same class:
``norm_eval``, for one, is off here and on there. In mmengine's root registry one ``NormalizedX``
would overwrite the other. So ours are registered where their parents are, in MMSegmentation's own
registry, and are found as their parents are: under its scope by the bare name, elsewhere with the
scope written out, beside MMDetection's of the same name. That is what mmengine's scopes are for,
and ``tools/fold.py`` only has to take "Normalized" off. (The heads are in the root, as no
MMDetection head has their names.) A config must import ``normfix_mm.segmentation``: with
``normfix_mm.detection`` alone the bare name would mean MMDetection's.
"""

from mmseg.models import backbones
from mmseg.registry import MODELS

from normfix_mm.engine.backbones import normalized

__all__ = [f"Normalized{name}" for name in backbones.__all__]
globals().update(
    (f"Normalized{name}", normalized(getattr(backbones, name), MODELS, module=__name__))
    for name in backbones.__all__
)
