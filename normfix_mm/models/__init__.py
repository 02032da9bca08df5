"""Stock models with normalized layers: mixins, backbones, and the model of a config.

FixNorm, WeightNormalized   mixins that make a head of one's own
normalized                  makes ``Normalized<X>`` of a backbone X of one's own
"""

try:
    import mmcv.cnn  # noqa: F401
except (ImportError, OSError) as error:
    raise ImportError(
        f"normfix_mm.models needs mmcv ({error}); run `python -m normfix_mm.check_env` to see what "
        "is missing."
    ) from None

from normfix_mm.models.backbones import NormalizedBackbone, normalized
from normfix_mm.models.mixins import FixNorm, Normalized, WeightNormalized

__all__ = ["FixNorm", "Normalized", "NormalizedBackbone", "WeightNormalized", "normalized"]
