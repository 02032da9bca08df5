"""What torch before 2.4 lacks, and what stands in for it: the one place that asks for a version.

Before 2.4 a compiler sees what is around a normalized layer; the layer itself runs as without one.
The results are the same, the graph breaks there, and torch refuses `fullgraph=True` and
torch.export. `models.mixins` then normalizes a weight at each of its uses, not once a forward.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

BEFORE_2_4 = TorchVersion(torch.__version__) < "2.4"
F = TypeVar("F", bound=Callable)

# What torch's compiler replaces by a constant, so these must be torch's own functions.
if BEFORE_2_4:

    def is_compiling() -> bool:
        """Never where `uncompiled` functions ask."""
        return False

    is_exporting = is_compiling
else:
    is_compiling = torch.compiler.is_compiling
    # A torch that does not tell export from compilation says yes to both.
    is_exporting = getattr(torch.compiler, "is_exporting", is_compiling)


def uncompiled(function: F) -> F:
    """Before torch 2.4 the function as it is, whoever compiles its caller."""
    return cast(F, torch._compile._disable_dynamo(function)) if BEFORE_2_4 else function


def norms(params: Sequence[Tensor]) -> Sequence[Tensor]:
    """‖W‖ of each in float64, by few kernels where torch has one for many tensors."""
    if BEFORE_2_4:
        return [torch.linalg.vector_norm(p, dtype=torch.float64) for p in params]
    return torch._foreach_norm(list(params), 2, torch.float64)


@functools.cache
def keep_step_hooks() -> None:
    """Before torch 2.3 the first torch.compile takes the step hooks from all of torch's optimizers.

    It takes them once in a program: here it does so at once, and they are put back for good.
    """
    if not BEFORE_2_4:
        return
    from torch._dynamo.eval_frame import TorchPatcher

    TorchPatcher.patch()
    base = torch.optim.Optimizer
    hooked = base.profile_hook_step(base.step).__code__
    classes: list[Any] = [c for c in vars(torch.optim).values() if isinstance(c, type)]
    for cls in classes:
        if issubclass(cls, base) and cls is not base and cls.step.__code__ is not hooked:
            cls.step = base.profile_hook_step(cls.step)
            cls.step.hooked = True
