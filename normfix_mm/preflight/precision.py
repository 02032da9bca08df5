"""Half precision: operators that the model needs and that have no kernel for its type.

mmcv compiles its CUDA operators for float32, float64 and float16: up to 2.3.6 its sources dispatch
by AT_DISPATCH_FLOATING_TYPES_AND_HALF. Under autocast to bfloat16 the first of them ends the first
iteration.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from normfix_mm.errors import BadInput, listing

# It goes on in plain torch where the operator has no kernel.
_GOES_ON = {"MultiScaleDeformableAttention"}


def check_half(cfg, model: nn.Module) -> None:
    """Raises BadInput for mixed precision in bfloat16 where an operator of mmcv would meet it."""
    optim = cfg.get("optim_wrapper")
    if not isinstance(optim, dict) or "bfloat16" not in str(optim.get("dtype")):
        return
    names = list(dict.fromkeys(_operators(model)))
    if names:
        raise BadInput(
            f"mmcv has no bfloat16 kernels, and the model uses its operators: {listing(names, 4)}; "
            "train in float16, with optim_wrapper.dtype='float16'."
        )


def _operators(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        kind = type(module)
        compiled = kind.__module__.startswith("mmcv.ops.") and kind.__name__ not in _GOES_ON
        # Of the losses it is the sigmoid focal loss of mmdet and mmseg that calls an operator.
        focal = kind.__name__ == "FocalLoss" and getattr(module, "use_sigmoid", False)
        if compiled or (focal and not getattr(module, "activated", False)):
            yield f"{kind.__name__} ({name})"
