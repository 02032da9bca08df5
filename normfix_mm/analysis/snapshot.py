"""A model's whole state, put aside while somebody experiments on it, and put back bit for bit.

Weights are copied back rather than divided by the factor they were scaled with: division rounds.
Gains that are still due to be set to ||W|| are set first and then left alone, so that no normalized
layer takes the experiment for an initialization or for training.

Activation checkpointing (`with_cp=True` of OpenMMLab's modules) is off meanwhile: it recomputes a
forward inside `backward()` and refuses `torch.autograd.grad`, and it changes no value.
"""

import random
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from normfix_mm.layers.gain import end_start, gained_layers, settle_gains


class Snapshot(AbstractContextManager):
    """Restores, on leaving the block and also after an exception: parameters (values, gradients,
    `requires_grad`), buffers, each module's training flag, and the random states of torch (CPU,
    CUDA), Python and, if it is imported, NumPy.

    Gradients are put aside, so inside the block every `.grad` starts as None. State kept outside
    parameters and buffers, such as a head's own Python counters, is not covered.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> "Snapshot":
        self.checkpointing: list[Any] = [
            m for m in self.model.modules() if getattr(m, "with_cp", False)
        ]
        for module in self.checkpointing:
            module.with_cp = False
        self.modes = [(m, m.training) for m in self.model.modules()]
        self.params = [
            (p, p.detach().clone(), p.grad, p.requires_grad) for p in self.model.parameters()
        ]
        self.buffers = [
            (module._buffers, name, buffer, buffer.detach().clone())
            for module in self.model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        self.random_states = _random_states()
        self.starts = [(m, m._start) for m in gained_layers(self.model).values()]
        # A forward takes out those by which gains start.
        self.hooks = [(m, m._forward_pre_hooks.copy()) for m in self.model.modules()]
        settle_gains(self.model)
        end_start(self.model)
        self.remember_weights()
        for param, *_ in self.params:
            param.grad = None
        return self

    def remember_weights(self) -> None:
        """Take the present weights as those `rewind` returns to."""
        self.working = [p.detach().clone() for p, *_ in self.params]

    def rewind(self) -> None:
        """Weights as last remembered; buffers and random states as on entering the block."""
        for (param, *_), value in zip(self.params, self.working, strict=True):
            param.data.copy_(value)
        for home, name, buffer, value in self.buffers:
            buffer.data.copy_(value)
            home[name] = buffer  # a forward may have put another tensor in its place
        _set_random_states(self.random_states)

    def __exit__(self, *exception) -> None:
        self.working = [value for _, value, *_ in self.params]
        self.rewind()
        for param, _, grad, requires_grad in self.params:
            param.grad = grad
            param.requires_grad_(requires_grad)
        for module, mode in self.modes:
            module.training = mode
        for module in self.checkpointing:
            module.with_cp = True
        for module, start in self.starts:
            module._start = start
        for module, hooks in self.hooks:
            module._forward_pre_hooks.clear()
            module._forward_pre_hooks.update(hooks)


def _random_states() -> dict:
    states = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state()
    return states


def _set_random_states(states: dict) -> None:
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
    if "numpy" in states:
        sys.modules["numpy"].random.set_state(states["numpy"])
