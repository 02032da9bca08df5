"""The gain g of a normalized layer: where it starts, and how long it follows the weight.

The papers do not say how g starts. Here it starts at ||W||, which leaves the layer's function as it
was, and follows ||W|| until it is trained or loaded, so that an initialization or a stock
checkpoint that comes later still gets the right gain.
"""

import torch
from torch import Tensor, nn

from normfix_mm.layers.base import NormalizedLayer


class GainedLayer(NormalizedLayer):
    """A layer with a gain `g` that follows ||W|| until it is trained.

    It follows, whatever initializes or broadcasts the weight, until a backward pass goes through
    the layer, a checkpoint brings a g, or somebody sets g by itself. From then on a weight that
    changes without its g is refused; that is read off the parameters' version counters, which cost
    no synchronization, and do not see what is written through `.data`.
    """

    gain_per_filter = False

    def _set_options(self, **options) -> None:
        super()._set_options(**options)
        count = self.weight.shape[0] if self.gain_per_filter else 1
        self.g = nn.Parameter(self.weight.new_empty(count), self.weight.requires_grad)
        self._follows = True
        self.reset_gain()

    def _weight_norm(self) -> Tensor:
        rows = self.weight.detach().reshape(len(self.g), -1)
        wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
        return torch.linalg.vector_norm(rows, dim=1, dtype=wide).to(self.g.dtype)

    def reset_gain(self) -> None:
        """Set g = ||W||. A zero weight gets a random direction and g = 0, so that it can learn."""
        self._set_gain(self._weight_norm())

    @torch.no_grad()
    def _set_gain(self, gain: Tensor) -> None:
        self.g.copy_(gain)
        norm = self._weight_norm()
        if not norm.is_meta and not norm.all():
            # One fixed seed: every rank draws the same direction.
            generator = torch.Generator().manual_seed(self.weight.numel())
            direction = torch.randn(self.weight.shape, generator=generator)
            direction *= (len(norm) / direction.numel()) ** 0.5
            zero = (norm == 0).view(-1, *[1] * (self.weight.dim() - 1))
            self.weight.copy_(torch.where(zero, direction.to(self.weight), self.weight))
        self._seen = self._versions()
        self._gain_set = self.g.detach().clone()
        self._norm_set = self._weight_norm()  # not 0 where a zero weight got a direction

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if "g" in self._parameters:  # absent while the parent's __init__ runs
            self._follows = True
            self.reset_gain()

    def _versions(self) -> tuple[int, ...]:
        return id(self.weight), self.weight._version, id(self.g), self.g._version

    @torch.compiler.disable
    def _settle_gain(self) -> None:
        """Before g is used or copied: let it follow, let go of it, or refuse a stale one."""
        if self.weight.is_meta:
            return
        if self._follows and self._gain_set.is_meta:
            return self.reset_gain()
        now, seen = self._versions(), self._seen or self._versions()
        if now == self._seen and not self.weight.requires_grad:
            return  # comparing values waits for the device, and a frozen layer follows for good
        weight_changed, gain_changed = now[:2] != seen[:2], now[2:] != seen[2:]
        if self._follows:
            # DDP broadcasts both before the weights are initialized. Whoever writes g alone means
            # it, and so does an EMA, which writes both, but through `.data`.
            gain_set = torch.equal(self.g.detach(), self._gain_set.to(self.g))
            self._follows = gain_set or weight_changed
        if self._follows:
            norm = self._weight_norm()
            # Rounding is another on another device; a filter at 0 with its direction stays there.
            unchanged = torch.isclose(norm, self._norm_set.to(norm), rtol=0.01) & (norm > 0)
            gain = norm.masked_fill(unchanged & (self._gain_set.to(norm) == 0), 0)
            if not norm.all() or not torch.equal(gain, self.g.detach()):
                self._set_gain(gain)
        elif weight_changed and not gain_changed and self.g.requires_grad:
            raise RuntimeError(
                f"{type(self).__name__}: `weight` was changed and its gain `g` was not, so g is "
                "stale. After initializing the weight again call `reset_gain()`; to train the "
                "weight alone freeze g with `g.requires_grad_(False)`."
            )
        self._seen = self._versions()

    def _gain(self) -> Tensor:
        if self._follows or not torch.compiler.is_compiling():
            self._settle_gain()
        return self.g

    def _watched(self, weight: Tensor) -> Tensor:
        return self._let_go_in_backward(weight) if self._follows else weight

    @torch.compiler.disable
    def _let_go_in_backward(self, weight: Tensor) -> Tensor:
        """`weight` itself; the first gradient that reaches it ends the following of ||W||."""

        def let_go(_: Tensor) -> None:
            self._follows = False

        if weight.requires_grad:
            weight.register_hook(let_go)
        return weight

    def __getstate__(self) -> dict:
        self._settle_gain()
        # Version counters belong to the parameters left behind, not to a copy's.
        return super().__getstate__() | {"_seen": None}

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        self._settle_gain()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
        )
        if self.g is None:
            return
        if prefix + "g" in state_dict:
            self._follows = False
            self._seen = self._versions()
        elif prefix + "weight" in state_dict:
            if prefix + "g" in missing_keys:
                missing_keys.remove(prefix + "g")
            if self.g.is_meta and not self.weight.is_meta:  # load_state_dict(assign=True)
                self.g = nn.Parameter(self.weight.new_empty(len(self.g)), self.g.requires_grad)
            self._follows = True
            self.reset_gain()


@torch.no_grad()
def settle_gains(model: nn.Module) -> None:
    """Give every layer whose gain still follows the weight g = ||W||, now.

    A zero weight gets its random direction here too, before a norm is taken from it.
    """
    for layer in model.modules():
        if hasattr(layer, "normalized_weight"):
            layer.normalized_weight()
