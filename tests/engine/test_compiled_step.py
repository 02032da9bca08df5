"""A whole training step under torch.compile, as mmengine's `compile=dict(...)` does it."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from normfix_mm import NormFix, WNConv2d, WSConv2d

pytestmark = pytest.mark.slow


def trained(compiled):
    torch.manual_seed(0)
    layers = [WSConv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), WNConv2d(8, 4, 3, gain=True)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(100, 2))
    options = dict(
        optimizer=dict(type="SGD", lr=0.1, momentum=0.9),
        constructor="EpsShiftOptimWrapperConstructor",
        paramwise_cfg=dict(eps_shift=dict(lam=0.5, eps=0.1, include="^0")),
    )
    wrapper = build_optim_wrapper(model, options)
    fixing = NormFix(wrapper.optimizer, model, include="^3")

    def train_step(pictures):
        wrapper.update_params(model(pictures).square().mean())

    step = torch.compile(train_step, backend="aot_eager") if compiled else train_step
    pictures = torch.Generator().manual_seed(1)
    for _ in range(3):
        step(torch.randn(2, 3, 9, 9, generator=pictures))
    return model.state_dict(), fixing


def test_a_compiled_step_trains_with_both_methods():
    torch._dynamo.utils.counters.clear()
    (plain, _), (compiled, fixing) = trained(False), trained(True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(fixing.joint_norm(), fixing.target, rtol=1e-6, atol=0)
