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
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from normfix_mm.errors import Stopped
from normfix_mm.layers.base import NormalizedLayer


class GainedLayer(NormalizedLayer):
    """A layer with a gain `g`.

    Attributes:
        g: shape (1,), or (filters,) with `gain_per_filter`.
        gain_start: where a g starts that is not loaded: 'weight' for ||W||, 'cap' for FixNorm's
            alpha sqrt(outputs), or a number.
    """

    gain_per_filter = False
    gain_start: str | float = "weight"
    g: nn.Parameter
    # What a named point has set g to for following ||W||; None once g is loaded or trained.
    _start: Tensor | None = None

    def _set_options(self, **options: Any) -> None:
        start = options.get("gain_start", "weight")
        words = ["weight", "cap"] if hasattr(type(self), "cap") else ["weight"]
        is_number = isinstance(start, int | float) and not isinstance(start, bool)
        if start not in words and not (is_number and 0 < start < float("inf")):
            raise ValueError(f"Invalid gain_start: {start!r}; take one of {words} or a number > 0.")
        super()._set_options(**options)
        count = self.weight.shape[0] if self.gain_per_filter else 1
        self.g = nn.Parameter(self.weight.new_empty(count), self.weight.requires_grad)
        self.reset_gain()
        self.register_forward_pre_hook(settle_alone)

    def reset_gain(self) -> None:
        """Set g as `gain_start` says; the norm of a zero weight is 0, but it can learn."""
        self._follow_weight()
        if self.gain_start != "weight":
            start: Any = self.cap if self.gain_start == "cap" else self.gain_start
            with torch.no_grad():
                self.g.fill_(start)
            self._start = None  # it does not depend on the weight

    @torch.no_grad()
    def _follow_weight(self) -> None:
        """g = ||W||. A zero weight gets a random direction and g = 0, so that it can learn."""
        norm = self._weight_norm()
        if not norm.is_meta and not norm.all():
            shape = -1, *[1] * (self.weight.dim() - 1)
            zero = (norm == 0).view(shape)
            self.weight.copy_(torch.where(zero, self._direction(), self.weight))
        self.g.copy_(norm)
        self._start = self.g.detach().clone()

    def _weight_norm(self) -> Tensor:
        rows = self.weight.detach().reshape(len(self.g), -1)
        wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
        return torch.linalg.vector_norm(rows, dim=1, dtype=wide).to(self.g.dtype)

    def _direction(self) -> Tensor:
        """A random weight with rows of length 1, the same on every rank and at every call."""
        generator = torch.Generator().manual_seed(self.weight.numel())
        direction = torch.randn(self.weight.shape, generator=generator)
        direction *= (len(self.g) / direction.numel()) ** 0.5
        return direction.to(self.weight)

    def reset_parameters(self) -> None:
        super().reset_parameters()  # type: ignore
        if "g" in self._parameters:  # absent while the parent's __init__ runs
            self.reset_gain()

    def is_fresh(self) -> bool:
        """Whether g is still what a named point has set it to, for the weight of that time."""
        # A functional call puts tensors of the caller in the parameter's place.
        if self._start is None or self.g.is_meta or type(self.g) is not nn.Parameter:
            return False
        return self._start.is_meta or torch.equal(self.g.detach(), self._start.to(self.g))

    @torch.no_grad()
    def settle_gain(self) -> None:
        """Let g follow a weight that was initialized after it."""
        kept = None
        if self._start is not None and not self._start.is_meta and not self._start.all():
            # A zero filter with its direction is not a weight that somebody has initialized.
            same = torch.isclose(self.weight, self._direction(), rtol=0.01)
            kept = same.reshape(len(self.g), -1).all(1) & (self._start.to(self.g) == 0)
        self._follow_weight()
        if kept is not None:
            self.g.masked_fill_(kept, 0)
            self._start = self.g.detach().clone()

    def _refuse_stale(self) -> None:
        """Before the first training step: has the weight been initialized since g was set?"""
        if not self.is_fresh():
            return
        norm, g = self._weight_norm(), self.g.detach()
        if not torch.isclose(norm, g, rtol=0.01).logical_or(g == 0).all():
            raise Stopped(
                f"{type(self).__name__}: the weight was initialized after its gain g was set to "
                "||W||, so g is stale; call normfix_mm.reset_gains(model) after initializing the "
                "weights, or put dict(type='WeightTableHook') into a config's custom_hooks."
            )
        if not self.weight.requires_grad:
            self._start = None  # no gradient will come to say that training has begun

    def _watched(self, weight: Tensor) -> Tensor:
        """The effective weight, which notes when training has begun; needed before that only."""
        trains = self.training and torch.is_grad_enabled()
        if self._start is None or not trains or torch.compiler.is_compiling():
            return weight
        self._refuse_stale()
        return _NoteTraining.apply(weight, self)

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
    ) -> None:
        if self.g is None:
            return super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
            )
        names = prefix + "weight", prefix + "g"
        weight = state_dict.get(names[0])
        fits = weight is not None and weight.shape == self.weight.shape
        with_gain = fits and names[1] in state_dict
        if not with_gain:
            state_dict = {k: v for k, v in state_dict.items() if k != names[1]}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
        )
        if with_gain:
            self._start = None
        elif fits:
            if names[1] in missing_keys:
                missing_keys.remove(names[1])
            if self.g.is_meta and not self.weight.is_meta:  # load_state_dict(assign=True)
                self.g = nn.Parameter(self.weight.new_empty(len(self.g)), self.g.requires_grad)
            self._follow_weight()
        elif self.is_fresh():
            self.settle_gain()


class _NoteTraining(torch.autograd.Function):
    """The identity; the first gradient through it says that the layer is being trained."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, layer: GainedLayer) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.layer = inputs[1]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        ctx.layer._start = None
        return grad, None


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
    """
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


def _settle_now(model: nn.Module, args: Any) -> None:
    if torch.compiler.is_compiling():  # run as it is; the decorator would import torch._dynamo
        torch.compiler.disable(_settle_now)(model, args)
    elif model.training and torch.is_grad_enabled():
        remove_hook(model, _settle_now)
        settle_gains(model)


def settle_alone(layer: nn.Module, args: Any) -> None:
    """The same for a layer of which nobody takes care, as in a config with none of our hooks.

    Not among several processes, where a layer cannot tell alone.
    """
    if torch.compiler.is_compiling() or not (layer.training and torch.is_grad_enabled()):
        return
    remove_hook(layer, settle_alone)
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if isinstance(layer, GainedLayer) and not together and layer.is_fresh():
        layer.settle_gain()


def remove_hook(module: nn.Module, hook: Callable) -> None:
    """Take a forward pre-hook out, whoever registered it."""
    for key in [k for k, present in module._forward_pre_hooks.items() if present is hook]:
        del module._forward_pre_hooks[key]


def end_start(model: nn.Module) -> None:
    """Note that the model is being trained: its gains are nobody's to set from now on."""
    for layer in gained_layers(model).values():
        layer._start = None
