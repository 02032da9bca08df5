"""normfix_mm: detectors and segmenters trained without weight decay's side effects.

`import normfix_mm` gives the pure-torch core and, where mmengine is installed, registers layers,
hooks and the optimizer constructor with it. Heads and backbones register with
`import normfix_mm.detection`.
"""

import importlib.util as _importlib_util

from normfix_mm import errors as _errors

__version__ = "0.1.0"

if _importlib_util.find_spec("torch"):
    from normfix_mm.analysis.invariance import find_scale_variant
    from normfix_mm.analysis.metrics import effective_learning_rate, mean_cross_boundary_risk
    from normfix_mm.layers.fixnorm import FixNormConv2d, FixNormLinear
    from normfix_mm.layers.fold import fold
    from normfix_mm.layers.gain import reset_gains
    from normfix_mm.layers.normalize_layers import normalize_layers
    from normfix_mm.layers.standardized import CWNConv2d, WSConv2d
    from normfix_mm.layers.weight_norm import (
        WNConv2d,
        WNConvTranspose2d,
        WNLinear,
        WNPointwiseConv2d,
    )
    from normfix_mm.optim.eps_shift import EpsShift
    from normfix_mm.optim.norm_fix import NormFix
    from normfix_mm.optim.param_groups import param_groups

    __all__ = [
        "CWNConv2d",
        "EpsShift",
        "FixNormConv2d",
        "FixNormLinear",
        "NormFix",
        "WNConv2d",
        "WNConvTranspose2d",
        "WNLinear",
        "WNPointwiseConv2d",
        "WSConv2d",
        "effective_learning_rate",
        "find_scale_variant",
        "fold",
        "mean_cross_boundary_risk",
        "normalize_layers",
        "param_groups",
        "reset_gains",
    ]

    if _importlib_util.find_spec("mmengine"):
        try:
            from normfix_mm import engine as engine
        except _errors.IMPORT_FAILURES as _error:
            import warnings as _warnings

            _warnings.warn(
                f"mmengine is installed but does not load ({_error}), so normfix_mm registered "
                "nothing with it; `python -m normfix_mm.check_env` says what is missing.",
                stacklevel=2,
            )
else:

    def __getattr__(name: str):
        # Only check_env, which says what is missing, is of use without torch.
        raise ImportError(f"normfix_mm.{name} needs PyTorch: pip install torch")
