"""Half precision: operators that have no kernel for its type, and a step that it skips.

mmcv compiles its CUDA operators for float32, float64 and float16: up to 2.3.6 its sources dispatch
by AT_DISPATCH_FLOATING_TYPES_AND_HALF. Under autocast to bfloat16 the first of them ends the first
iteration.

torch's fused SGD (seen in 2.13) takes memory as it finds it for the momentum, and fills it in its
first step. In float16 a GradScaler skips steps that overflow, often the very first; the momentum is
then whatever lay there, and training goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from normfix_mm.datasets.config import type_name
from normfix_mm.errors import BadInput, listing

# It goes on in plain torch where the operator has no kernel.
_GOES_ON = {"MultiScaleDeformableAttention"}


def check_half(cfg, model: nn.Module) -> None:
    """Look at mixed precision before it is used.

    Raises:
        BadInput: bfloat16 where an operator of mmcv would meet it; float16 with a fused SGD.
    """
    optim = cfg.get("optim_wrapper")
    if not isinstance(optim, dict):
        return
    if "bfloat16" in str(optim.get("dtype")):
        names = list(dict.fromkeys(_operators(model)))
        if names:
            raise BadInput(
                f"mmcv has no bfloat16 kernels, and the model uses its operators: "
                f"{listing(names, 4)}; train in float16, with optim_wrapper.dtype='float16'."
            )
    elif type_name(optim) == "AmpOptimWrapper":
        sgd = optim.get("optimizer") or {}
        if type_name(sgd) == "SGD" and sgd.get("fused") and sgd.get("momentum"):
            raise BadInput(
                "AmpOptimWrapper skips a step that overflows in float16, and torch's fused SGD "
                "goes on with uninitialized momentum if that is its first; write "
                "optim_wrapper.optimizer.fused=False (--amp does)."
            )


def _operators(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        kind = type(module)
        compiled = kind.__module__.startswith("mmcv.ops.") and kind.__name__ not in _GOES_ON
        # Of the losses it is the sigmoid focal loss of mmdet and mmseg that calls an operator.
        focal = kind.__name__ == "FocalLoss" and getattr(module, "use_sigmoid", False)
        if compiled or (focal and not getattr(module, "activated", False)):
            yield f"{kind.__name__} ({name})"
