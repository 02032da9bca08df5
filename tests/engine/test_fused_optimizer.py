"""`optimizer=dict(fused=True)`: the step in one kernel, with both methods and a gradient scaler."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from normfix_mm import NormFix, WSConv2d


def trained(fused: bool, scale: float | None, overflow_at: int | None = None):
    torch.manual_seed(0)
    layers = [WSConv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(100, 2))
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-3, fused=fused),
            constructor="EpsShiftOptimWrapperConstructor",
            paramwise_cfg=dict(
                eps_shift=dict(lam=0.5, eps=0.1), custom_keys={"3.weight": dict(decay_mult=0)}
            ),
        ),
    )
    optimizer = wrapper.optimizer
    fixing = NormFix(optimizer, model, include="^3")
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    pictures = torch.Generator().manual_seed(1)
    for step in range(6):
        optimizer.zero_grad()
        loss = model(torch.randn(2, 3, 9, 9, generator=pictures)).square().mean()
        scaler.scale(loss).backward()
        if step == overflow_at:
            model[3].weight.grad[0, 0, 0, 0] = float("inf")
            before = {k: v.detach().clone() for k, v in model.named_parameters()}
        scaler.step(optimizer)
        scaler.update()
        if step == overflow_at:
            assert all(torch.equal(v, before[k]) for k, v in model.named_parameters())
    assert abs(float(fixing.joint_norm()) / float(fixing.target) - 1) < 1e-6
    return model.state_dict()


@pytest.mark.parametrize("scale", [None, 1.0, 2.0**10])
def test_the_fused_step_trains_like_the_plain_one(scale):
    plain, fused = trained(False, None), trained(True, scale)
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_an_overflow_skips_the_step_of_both_methods(fused):
    ours, other = trained(fused, 2.0**10, 2), trained(not fused, 2.0**10, 2)
    for name, value in ours.items():
        torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6)
