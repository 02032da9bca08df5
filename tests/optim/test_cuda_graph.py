"""A whole training step in a CUDA graph: forward, backward, ε-shift, SGD, norm fixing."""

import copy

import pytest
import torch
from torch import nn

from normfix_mm import CWNConv2d, EpsShift, FixNormLinear, NormFix, WNConv2d, WSConv2d

pytestmark = pytest.mark.gpu


def net():
    return nn.Sequential(
        WSConv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), CWNConv2d(16, 8, 3), nn.BatchNorm2d(8),
        nn.ReLU(), WNConv2d(8, 8, 3, gain=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), FixNormLinear(32, 5),
    )  # fmt: skip


def stepper(model, pictures):
    rate = torch.tensor(0.01, device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    EpsShift(optimizer, model, lam=0.1, eps=0.01)
    fixing = NormFix(optimizer, model, include="^(8|12)")

    def step():
        optimizer.zero_grad(set_to_none=False)
        model(pictures).square().mean().backward()
        optimizer.step()

    return step, fixing


def test_a_captured_step_replays_as_the_eager_one():
    torch.manual_seed(0)
    eager = net().cuda()
    captured = copy.deepcopy(eager)
    pictures = torch.randn(8, 3, 14, 14, device="cuda")
    eager_step, _ = stepper(eager, pictures)
    step, fixing = stepper(captured, pictures)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()  # only recorded
    for _ in range(4):
        graph.replay()
    for _ in range(7):
        eager_step()
    torch.cuda.synchronize()
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(captured.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    assert abs(float(fixing.joint_norm()) / float(fixing.target) - 1) < 1e-6


@pytest.mark.parametrize("kind", ["shift", "fixing"])
def test_the_hooks_never_wait_for_the_gpu(kind):
    model = net().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    if kind == "shift":
        EpsShift(optimizer, model)
    else:
        NormFix(optimizer, model, include="^(8|12)")
    pictures = torch.randn(8, 3, 14, 14, device="cuda")
    for turn in range(3):
        model(pictures).square().mean().backward()
        torch.cuda.set_sync_debug_mode("error" if turn else "default")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
