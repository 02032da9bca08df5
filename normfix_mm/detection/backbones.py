"""MMDetection's backbones with normalized convolutions: ``Normalized<X>`` for each backbone X.

``normfix_mm.engine.backbones`` says what they do; weight normalization with gain is their default
because MMDetection trains with ``norm_eval=True``.
"""

from mmdet.models import backbones

from normfix_mm.engine.backbones import normalized

__all__ = [f"Normalized{name}" for name in backbones.__all__]
globals().update(
    (f"Normalized{name}", normalized(getattr(backbones, name), module=__name__))
    for name in backbones.__all__
)
