"""The gain g of a normalized layer: a parameter like any other, and where it starts.

The papers do not say how g starts. Here it starts at ||W||, which leaves the layer's function as it
was. `forward` writes nothing; g is set at named points only:

* when the layer is made or adopted, and by `reset_parameters`, `reset_gain` and `reset_gains`;
* by `load_state_dict`, which takes g together with its weight: a weight without a g (a stock
  checkpoint) gets g = ||W||, and a g whose weight is absent or does not fit is left out;
* by `settle_gains`, where training starts (our hooks, attaching EpsShift or NormFix, and before the
  first forward in training mode), and by `init_weights` of our backbones and heads; there only for
  a gain that nobody has loaded, trained or written, since a weight may be initialized after its
  layer was made.

After that, who writes the weight alone keeps g.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist

from normfix_mm.errors import BadInput
from normfix_mm.kernels.torch_versions import is_compiling, uncompiled
from normfix_mm.layers.bypassed import refuse_bypassed
from normfix_mm.layers.gain_alone import (
    NoteTraining,
    begin_alone,
    is_batched,
    is_exporting,
    remove_hook,
    settle_alone,
    stale,
)
from normfix_mm.layers.gain_loading import LoadsGain
from normfix_mm.layers.options import is_positive
from normfix_mm.layers.sharded import whole, write


class GainedLayer(LoadsGain):
    """A layer with a gain `g`.

    Attributes:
        g: shape (1,), or (filters,) with `gain_per_filter`.
        gain_start: where a g starts that is not loaded: 'weight' for ||W||, 'cap' for FixNorm's
            alpha sqrt(outputs), or a number.
    """

    gain_per_filter = False
    gain_start: str | float = "weight"
    g: nn.Parameter
    # The ||W|| that g was last set to; None once g was loaded or trained, and is nobody's to set.
    _start: Tensor | None = None

    def _set_options(self, **options: Any) -> None:
        start = options.get("gain_start", "weight")
        words = ["weight", "cap"] if hasattr(type(self), "cap") else ["weight"]
        if not (start in words if isinstance(start, str) else is_positive(start)):
            raise BadInput(f"Invalid gain_start: {start!r}; take one of {words} or a number > 0.")
        super()._set_options(**options)
        count = self.weight.shape[0] if self.gain_per_filter else 1
        self.g = nn.Parameter(self.weight.new_empty(count), self.weight.requires_grad)
        self.reset_gain()
        self.register_forward_pre_hook(settle_alone)

    def reset_gain(self) -> None:
        """Set g as `gain_start` says; the norm of a zero weight is 0, but it can learn."""
        self._follow_weight()
        self._start_elsewhere()

    @torch.no_grad()
    def _start_elsewhere(self) -> None:
        """Where g starts if that does not depend on the weight."""
        start = self._start_value()
        if start is not None:
            self.g.fill_(start)
            self._start = None

    def _start_value(self) -> float | None:
        """What `gain_start` says, None for ||W||."""
        if self.gain_start == "weight":
            return None
        at_cap = self.gain_start == "cap"
        return float(cast(Any, self)._cap_as_gain() if at_cap else self.gain_start)

    @torch.no_grad()
    def _follow_weight(self) -> None:
        """g = ||W||. A zero weight gets a random direction and g = 0, so that it can learn."""
        norm = self._weight_norm()
        self._refuse_no_gain(norm)
        if self.g.is_meta and not norm.is_meta:  # a loader has put the weight alone in its place
            self.g = nn.Parameter(torch.empty_like(norm), self.g.requires_grad)
        if _has_values(norm) and not norm.all():
            shape = -1, *[1] * (self.weight.dim() - 1)
            zero = (norm == 0).view(shape)
            write(self.weight, torch.where(zero, self._direction(), whole(self.weight)))
        write(self.g, self._norm_as_gain(norm))
        self._start = self.g.detach().clone()

    def _weight_norm(self) -> Tensor:
        """||W||, also where the squares of its elements are too large or too small for a number."""
        rows = whole(self.weight).reshape(len(self.g), -1)
        rows = rows if rows.dtype == torch.float64 else rows.float()
        size = rows.abs().amax(1)
        unit = rows / torch.where(size == 0, 1.0, size).unsqueeze(1)
        # On a CPU torch's norm of some ten million numbers, as a box head has, is off by 3e-4 and
        # more; its sum is not.
        return (size * unit.square_().sum(1).sqrt_()).to(self.g.dtype)

    def _norm_as_gain(self, norm: Tensor) -> Tensor:
        """What g becomes where it is set to this norm."""
        return norm

    def _refuse_no_gain(self, norm: Tensor) -> None:
        """Raise for a gain that cannot be set to this norm."""
        name = type(self).__name__
        if "g" not in self._parameters:
            raise BadInput(
                f"{name}: its gain g is computed by a parametrization and cannot be set to ||W||; "
                "remove the parametrization first, and register it again afterwards."
            )
        if _has_values(norm) and bool((norm.isinf() & self._is_finite()).any()):
            raise BadInput(
                f"{name}: the norm of the weight exceeds what a gain of {self.g.dtype} can hold; "
                "keep the layer in float32, or scale the weight down."
            )

    def _is_finite(self) -> Tensor:
        """For each gain, whether its part of the weight is finite."""
        return whole(self.weight).reshape(len(self.g), -1).isfinite().all(1)

    def _direction(self) -> Tensor:
        """A random weight with rows of length 1, the same on every rank and at every call."""
        generator = torch.Generator().manual_seed(self.weight.numel())
        direction = torch.randn(self.weight.shape, generator=generator)
        direction *= (len(self.g) / direction.numel()) ** 0.5
        return direction.to(self.weight.device, self.weight.dtype)

    def reset_parameters(self) -> None:
        super().reset_parameters()  # type: ignore
        if "g" in self._parameters:  # absent while the parent's __init__ runs
            self.reset_gain()

    def is_untouched(self) -> bool:
        """Whether g is where it starts, at ||W|| or elsewhere."""
        start = self._start_value()
        elsewhere = start is not None and not self.g.is_meta
        return self.is_fresh() or (
            elsewhere and bool((whole(self.g) == self.g.new_tensor(start)).all())
        )

    def is_fresh(self) -> bool:
        """Whether g is still what a named point has set it to, for the weight of that time."""
        return isinstance(self.g, nn.Parameter) and self._is_at_start()

    def _is_at_start(self) -> bool:
        if self._start is None or self.g.is_meta:
            return False
        # A functional call puts tensors of the caller in a parameter's place; a weight alone there
        # says nothing about the layer's.
        if type(self.g) is nn.Parameter and type(self._parameters.get("weight")) is Tensor:
            return False
        # Bit by bit: memory that nobody has written, after to_empty(), may hold NaN.
        g, start = whole(self.g).contiguous(), whole(self._start)
        if not _has_values(g) or not _has_values(start):
            return False
        start = start.to(g)
        return torch.equal(g.view(torch.uint8), start.view(torch.uint8))

    def _apply(self, fn: Callable, recurse: bool = True) -> Any:
        """Move, cast or empty the layer, after which a fresh gain is still one."""
        start, on_meta = self._start, self.g is not None and self.g.is_meta
        fresh = start is not None and (start.is_meta or self.is_fresh())
        super()._apply(fn, recurse)
        if fresh:
            self._start = self.g.detach().clone()
        elif on_meta and not self.g.is_meta:
            self._start_elsewhere()
        return self

    def _replicate_for_data_parallel(self) -> Any:
        """A copy that lives for one forward of DataParallel; what concerns g happens here."""
        if self.training and torch.is_grad_enabled():
            begin_alone(self)
        return super()._replicate_for_data_parallel()

    @torch.no_grad()
    def settle_gain(self) -> None:
        """Let g follow a weight that was initialized after it."""
        kept = self._is_given_direction() if self._start is not None else None
        self._follow_weight()
        if kept is not None:
            write(self.g, whole(self.g).masked_fill(kept, 0))
            self._start = self.g.detach().clone()

    def _is_given_direction(self) -> Tensor | None:
        """For each gain, whether it is 0 and its weight the direction that it got then; None where
        no gain is: a zero filter with its direction is not a weight that somebody has initialized.
        """
        g = whole(self.g)
        if g.all():
            return None
        same = torch.isclose(whole(self.weight), self._direction(), rtol=0.01)
        return same.reshape(len(g), -1).all(1) & (g == 0)

    def _is_stale(self) -> bool:
        """Whether the weight has been initialized since g was set to its norm."""
        # A weight that is computed may be another each time; values of a batch cannot be looked at.
        if "weight" not in self._parameters or is_batched(self.weight) or is_batched(self.g):
            return False
        if not self._is_at_start():
            return False
        right = torch.isclose(self._weight_norm(), self.g.detach(), rtol=0.01, equal_nan=True)
        kept = self._is_given_direction()
        return not (right if kept is None else right | kept).all()

    def _refuse_stale(self) -> None:
        """Before the first training step."""
        if self._is_stale():
            raise stale(type(self).__name__)

    def _watched(self, weight: Tensor) -> Tensor:
        """The effective weight, which notes when training has begun; needed before that only.

        In evaluation mode, where a look changes nothing, a gradient says that it is training.
        """
        if self._start is None or not torch.is_grad_enabled() or is_exporting():
            return weight
        if not self.training and not weight.requires_grad:  # a frozen stage
            return weight
        if is_compiling():  # which notices no gradient
            if self.training:
                torch.compiler.disable(begin_alone)(self)
            return weight
        if self.training:
            self._refuse_stale()
            if not self.weight.requires_grad:
                self._start = None  # no gradient will come to say that training has begun
                return weight
        return NoteTraining.apply(weight, self, not self.training and self._is_stale())


def _has_values(tensor: Tensor) -> bool:
    """Whether it can be looked at: a meta tensor and torch's fake ones have a shape only."""
    return type(tensor) is Tensor and not tensor.is_meta


def gained_layers(model: nn.Module) -> dict[str, GainedLayer]:
    """The layers of a model that have a gain, by name."""
    layers = ((n, m) for n, m in model.named_modules() if isinstance(m, GainedLayer))
    return {name: layer for name, layer in layers if layer.g is not None}


def reset_gains(model: nn.Module) -> None:
    """Set every gain of the model anew, to ||W|| or to what the layer's `gain_start` says.

    For a model whose weights were initialized or replaced by hand.
    """
    for layer in gained_layers(model).values():
        layer.reset_gain()


def settle_gains(model: nn.Module) -> None:
    """Before training: g = ||W|| where nobody has loaded, trained or written g.

    All ranks of a process group must call it together: a rank whose model was broadcast to it
    cannot tell a gain that was written from one that was received.

    Raises:
        BadInput: a module around a layer uses its weight past its normalization.
    """
    refuse_bypassed(model)
    layers = list(gained_layers(model).values())
    fresh = [layer.is_fresh() for layer in layers]
    if layers and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        flags = torch.tensor(fresh, dtype=torch.uint8, device=device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        fresh = flags.bool().tolist()
    for layer, is_fresh in zip(layers, fresh, strict=True):
        if is_fresh:
            layer.settle_gain()


def settle_before_training(model: nn.Module) -> None:
    """`settle_gains` at the model's first forward in training mode.

    For what is attached before the weights are initialized, as mmengine makes the optimizer.
    """
    if _settle_now not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(_settle_now)


@uncompiled
def _settle_now(model: nn.Module, args: Any) -> None:
    if not (model.training and torch.is_grad_enabled()):
        return
    if is_compiling():  # run as it is; a decorator would import torch._dynamo
        torch.compiler.disable(_settle_all)(model, True)
    else:
        _settle_all(model, False)


def _settle_all(model: nn.Module, compiled: bool) -> None:
    remove_hook(model, _settle_now)
    settle_gains(model)
    if compiled:  # nothing is left to do in the layers, each of which would break the graph
        end_start(model)
        for layer in gained_layers(model).values():
            remove_hook(layer, settle_alone)


def end_start(model: nn.Module) -> None:
    """Note that the model is being trained: its gains are nobody's to set from now on."""
    for layer in gained_layers(model).values():
        layer._start = None
