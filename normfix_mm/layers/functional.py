"""Weight normalization of one tensor.

    standardize       WS    (w_f - mu) / (s + eps)      unbiased s, eps outside the root
    normalize         WN    g_f * w_f / ||w_f||         one gain a filter, or one for the layer
    center_normalize  CWN   (w_f - mu) / ||w_f - mu||

Sources: weight standardization, arXiv 1903.10520; weight normalization, arXiv 1602.07868; the
per-layer form, eqs. 6 and 29 of FixNorm. `w_f` is one output filter, flattened.

Statistics are taken in fp32 (fp64 for fp64 weights) whatever the autocast. Every finite filter
gives finite values and gradients; NaN and infinity stay visible.

Departure: a filter with nothing to normalize (zero under WN; constant or one-element under CWN)
gives zero and gets a zero gradient, where the formula divides by zero.

Each direction is one operator of torch (`kernels.operators`). Second derivatives, forward-mode
ones, `torch.func` and tracing go through `kernels.formulas`, which are plain torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from normfix_mm.kernels import formulas
from normfix_mm.kernels.operators import library
from normfix_mm.kernels.torch_versions import is_compiling, uncompiled


def standardize(weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Standardize each filter: zero mean, unit unbiased standard deviation.

    Args:
        weight: shape (filters, ...).
        eps: added to the standard deviation, as the authors do, not to the variance.

    Returns:
        A tensor of the same shape and dtype.
    """
    return _normalized("standardize", weight, eps)


def normalize(weight: Tensor, gain: Tensor | None = None) -> Tensor:
    """Give each filter the length `gain` (1 without one).

    Args:
        weight: shape (filters, ...).
        gain: shape (filters,).
    """
    _check_gain(gain, weight, weight.shape[0])
    return _normalized("normalize", weight, gain)


def normalize_layer(weight: Tensor, gain: Tensor | None = None) -> Tensor:
    """Give the whole tensor the length `gain`, a tensor of one element (FixNorm, eq. 6)."""
    _check_gain(gain, weight, 1)
    return _normalized("normalize_layer", weight, gain)


def center_normalize(weight: Tensor) -> Tensor:
    """Center each filter of a (filters, ...) weight and give it length 1."""
    return _normalized("center_normalize", weight)


def _check_gain(gain: Tensor | None, weight: Tensor, count: int) -> None:
    """Raise for a gain of another count, which a kernel would read past its end or in part, or on
    another device, of which it would read nothing."""
    if gain is None:
        return
    if gain.numel() != count:
        raise ValueError(f"The gain has {gain.numel()} elements, and {count} are needed.")
    if gain.device != weight.device:
        raise ValueError(
            f"The gain is on {gain.device} and the weight on {weight.device}: whoever loaded the "
            "weight has left the gain out; call normfix_mm.reset_gains(model)."
        )


@dataclass(frozen=True)
class _Form:
    """One normalization: its two operators, its formula and the formula's derivative, on rows."""

    forward: Callable
    backward: Callable
    formula: Callable
    vjp: Callable
    whole: bool = False  # the layer is one row

    def by_formula(self, weight: Tensor, *options) -> Tensor:
        return self.formula(self._rows(weight), *options).view(weight.shape).to(weight.dtype)

    def vjp_by_formula(self, grad: Tensor, weight: Tensor, *options) -> tuple[Tensor, ...]:
        out = self.vjp(self._rows(grad), self._rows(weight), *options)
        out, *others = (out,) if isinstance(out, Tensor) else out
        return out.view(weight.shape).to(weight.dtype), *others

    def _rows(self, weight: Tensor) -> Tensor:
        wide = weight if weight.dtype == torch.float64 else weight.float()
        return wide.reshape(1 if self.whole else weight.shape[0], -1)


def _form(name: str, formula: str, whole: bool = False) -> _Form:
    return _Form(
        getattr(torch.ops.normfix_mm, name).default,
        getattr(torch.ops.normfix_mm, name + "_backward").default,
        getattr(formulas, formula),
        getattr(formulas, formula + "_vjp"),
        whole,
    )


_FORMS = {name: _form(name, name) for name in ("standardize", "normalize", "center_normalize")}
_FORMS["normalize_layer"] = _form("normalize_layer", "normalize", whole=True)


@uncompiled
def _normalized(name: str, weight: Tensor, *options) -> Tensor:
    form = _FORMS[name]
    if not weight.is_floating_point():  # the imaginary part of a complex one would be dropped
        raise ValueError(f"A weight of {weight.dtype} cannot be normalized; give a real one.")
    if is_compiling():
        return form.forward(weight, *options)[0]
    differentiated = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    if differentiated or torch.jit.is_tracing():
        return form.by_formula(weight, *options)
    return _Normalization.apply(form, weight, *options)[0]


class _Normalization(torch.autograd.Function):
    """The operators' derivative; `options` are eps, or a gain, or nothing."""

    @staticmethod
    def forward(ctx, form: _Form, weight: Tensor, *options) -> tuple[Tensor, ...]:
        # Without this the operator would look for its derivative and come back here.
        with torch._C._AutoDispatchBelowAutograd():
            out, *statistics = form.forward(weight, *options)
        ctx.form, ctx.options = form, options
        gain = options[0] if options and isinstance(options[0], Tensor) else None
        if gain is not None:
            ctx.options = ()
        ctx.save_for_backward(weight, gain, *statistics)
        ctx.mark_non_differentiable(*statistics)
        ctx.set_materialize_grads(False)
        return out, *statistics

    @staticmethod
    def backward(ctx, grad: Tensor | None, *_) -> tuple[Tensor | None, ...]:
        weight, gain, *statistics = ctx.saved_tensors
        options = ctx.options if gain is None else (gain,)
        none = (None,) * len(options)
        if grad is None:
            return None, None, *none
        if torch.is_grad_enabled():  # somebody will differentiate once more
            out, *others = ctx.form.vjp_by_formula(grad, weight, *options)
            others = [x.to(gain.dtype) for x in others] if gain is not None else []
        else:
            out = ctx.form.backward(grad, weight, *options, *statistics)
            out, *others = (out,) if isinstance(out, Tensor) else out
        return None, out, *(none if gain is None else others)


for _name, _each in _FORMS.items():
    # For who calls the operator itself, as compiled and exported programs do.
    library.impl(_name, lambda *args, form=_each: _Normalization.apply(form, *args), "Autograd")
