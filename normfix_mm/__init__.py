"""normfix_mm: detectors and segmenters trained without weight decay's side effects.

`import normfix_mm` gives the pure-torch core and, where mmengine is installed, registers layers,
hooks and the optimizer constructor with it. Heads and backbones register with
`import normfix_mm.detection`.
"""

import importlib.util as _importlib_util

__version__ = "0.1.0"

if _importlib_util.find_spec("torch"):
    from .core.eps_shift import EpsShift
    from .core.folding import fold
    from .core.invariance import find_scale_variant
    from .core.layers import (
        CWNConv2d,
        FixNormConv2d,
        FixNormLinear,
        WNConv2d,
        WNConvTranspose2d,
        WNLinear,
        WSConv2d,
    )
    from .core.metrics import effective_learning_rate, mean_cross_boundary_risk
    from .core.norm_fix import NormFix
    from .core.swap import normalize_layers

    __all__ = [
        "CWNConv2d",
        "EpsShift",
        "FixNormConv2d",
        "FixNormLinear",
        "NormFix",
        "WNConv2d",
        "WNConvTranspose2d",
        "WNLinear",
        "WSConv2d",
        "effective_learning_rate",
        "find_scale_variant",
        "fold",
        "mean_cross_boundary_risk",
        "normalize_layers",
    ]

    if _importlib_util.find_spec("mmengine"):
        try:
            from . import engine as engine
        except (ImportError, OSError) as _error:
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
