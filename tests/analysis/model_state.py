"""All that a check may touch and has to put back: values, gradients, modes, random generators."""

import copy
import random

import numpy as np
import torch
from torch import nn


def full_state(model: nn.Module) -> dict:
    return {
        "values": copy.deepcopy(model.state_dict()),
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "identity": [(id(p), id(p.grad)) for p in model.parameters()],
        "trainable": [p.requires_grad for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def assert_same_state(a: dict, b: dict) -> None:
    assert a["values"].keys() == b["values"].keys()
    for name in a["values"]:
        assert torch.equal(a["values"][name], b["values"][name]), name
    for one, two in zip(a["grads"], b["grads"], strict=True):
        assert (one is None and two is None) or torch.equal(one, two)
    for key in ("identity", "trainable", "modes", "python"):
        assert a[key] == b[key], key
    assert torch.equal(a["torch"], b["torch"])
    assert all(np.array_equal(x, y) for x, y in zip(a["numpy"], b["numpy"], strict=True))
