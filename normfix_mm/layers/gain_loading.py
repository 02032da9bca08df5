"""How a gain is loaded: together with its weight, from checkpoints of ours and from stock ones."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from normfix_mm.layers.base import NormalizedLayer


class LoadsGain(NormalizedLayer):
    """What `load_state_dict` makes of g.

    A g whose weight is absent or does not fit is left out; a weight that comes without a g, or with
    one of another count, gets g = ||W||.

    What is given is often the model's own state dict, updated with what fits of a checkpoint. One
    tensor in it that is still the layer's own does not belong to the other: while nobody has
    loaded, trained or written g, a new weight beside the layer's own g gets g = ||W||, and another
    weight's g beside the layer's own weight is left out, with a warning.
    """

    g: nn.Parameter
    _start: Tensor | None

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
    ) -> None:
        arguments = prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
        # torch calls the layer's hooks, which may rename or reshape, only where it loads.
        hooks, self._load_state_dict_pre_hooks = self._load_state_dict_pre_hooks, OrderedDict()
        try:
            for hook in hooks.values():
                hook(state_dict, *arguments)
            if self.g is None:
                super()._load_from_state_dict(state_dict, *arguments)
            else:
                self._load_with_gain(state_dict, *arguments)
        finally:
            self._load_state_dict_pre_hooks = hooks

    def _load_with_gain(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
    ) -> None:
        with_weight = self._is_given("weight", state_dict, prefix)
        with_gain = with_weight and self._is_given("g", state_dict, prefix)
        own_weight = with_gain and self._is_own("weight", state_dict, prefix)
        own_gain = with_gain and self._is_own("g", state_dict, prefix)
        weight_alone = own_gain and not own_weight and (self.g.is_meta or self.is_fresh())
        gain_alone = own_weight and not own_gain and self.is_untouched()
        if not with_weight:
            state_dict = {k: v for k, v in state_dict.items() if k != prefix + "g"}
        elif gain_alone:
            state_dict = {**state_dict, prefix + "g": self.g.detach()}
            warnings.warn(
                f"{prefix}g is not loaded: in this state dict it stands beside the layer's own "
                "weight, so it was another weight's gain; to set it all the same, copy it into the "
                "layer's g.",
                stacklevel=2,
            )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
        )
        if with_gain and not (weight_alone or gain_alone):
            self._start = None
        elif with_weight and not gain_alone:
            if prefix + "g" in missing_keys:
                missing_keys.remove(prefix + "g")
            self._follow_weight()
            self._tell_if_cut(prefix)
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

    def _is_own(self, name: str, state_dict: Mapping[str, Tensor], prefix: str) -> bool:
        """Whether what a state dict has of this name is the parameter itself."""
        pair: list[Any] = [self._parameters.get(name), state_dict.get(prefix + name)]
        if any(tensor is None for tensor in pair):
            return False
        mine, given = (getattr(tensor, "_local_tensor", tensor) for tensor in pair)  # of a DTensor
        functions: Any = torch._C
        same = functions._is_alias_of(mine, given)
        return same and mine.storage_offset() == given.storage_offset()

    def is_untouched(self) -> bool:
        raise NotImplementedError

    def is_fresh(self) -> bool:
        raise NotImplementedError

    def settle_gain(self) -> None:
        raise NotImplementedError

    def _follow_weight(self) -> None:
        raise NotImplementedError

    def _tell_if_cut(self, prefix: str) -> None:
        """Warn if a bound of the layer's changes the function of the weight just loaded."""

    def _refuse_stale(self) -> None:
        raise NotImplementedError
