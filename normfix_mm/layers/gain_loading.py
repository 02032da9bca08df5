"""How a gain is loaded: together with its weight, from checkpoints of ours and from stock ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from normfix_mm.layers.base import NormalizedLayer


class LoadsGain(NormalizedLayer):
    """What `load_state_dict` makes of g.

    A g whose weight is absent or does not fit is left out; a weight that comes without a g, or with
    one of another count, gets g = ||W||.
    """

    g: nn.Parameter
    _start: Tensor | None

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
    ) -> None:
        if self.g is None:
            return super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
            )
        with_weight = self._is_given("weight", state_dict, prefix)
        with_gain = with_weight and self._is_given("g", state_dict, prefix)
        if not with_weight:
            state_dict = {k: v for k, v in state_dict.items() if k != prefix + "g"}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
        )
        if with_gain:
            self._start = None
        elif with_weight:
            if prefix + "g" in missing_keys:
                missing_keys.remove(prefix + "g")
            if self.g.is_meta and not self.weight.is_meta:  # load_state_dict(assign=True)
                self.g = nn.Parameter(self.weight.new_empty(len(self.g)), self.g.requires_grad)
            self._follow_weight()
        elif self.is_fresh():
            self.settle_gain()

    def _is_given(self, name: str, state_dict: Mapping[str, Tensor], prefix: str) -> bool:
        """Whether a state dict has this parameter, in its shape.

        A computed one (pruned, parametrized) is given by what it is computed from.
        """
        if name in self._parameters:
            value = state_dict.get(prefix + name)
            return value is not None and value.shape == getattr(self, name).shape
        sources = f"{prefix}{name}_orig", f"{prefix}parametrizations.{name}."
        return any(key.startswith(sources) for key in state_dict)

    def is_fresh(self) -> bool:
        raise NotImplementedError

    def settle_gain(self) -> None:
        raise NotImplementedError

    def _follow_weight(self) -> None:
        raise NotImplementedError

    def _refuse_stale(self) -> None:
        raise NotImplementedError
