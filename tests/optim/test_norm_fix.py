"""Norm fixing: one joint vector, exact to 1e-6 in float64, only on real steps."""

import copy
import math
import runpy
from pathlib import Path

import pytest
import torch
from helpers.fused import FUSED, on_cpu
from torch import nn

from normfix_mm import EpsShift, FixNormLinear, NormFix, WSConv2d
from normfix_mm.kernels import devices
from normfix_mm.kernels.norms import squared_norms

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
conv_shapes = runpy.run_path(str(BENCHMARKS / "resnet50_shapes.py"))["conv_shapes"]


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(),
        FixNormLinear(64, 5),
    )  # fmt: skip


def backward(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model.zero_grad()
    model(torch.randn(4, 3, 8, 8, generator=generator)).square().sum().backward()


def norm64(params):
    return math.sqrt(sum(p.detach().double().square().sum().item() for p in params))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd-loop": lambda p: torch.optim.SGD(p, lr=0.1, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0),
    "fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
}


@pytest.mark.parametrize(
    "name", [n if n != "fused" else pytest.param(n, marks=on_cpu) for n in OPTIMIZERS]
)
def test_joint_vector_is_rescaled_by_one_number(name):
    ours, free = net(), net()
    optimizer, plain = (OPTIMIZERS[name](m.parameters()) for m in (ours, free))
    fixing = NormFix(optimizer, ours)
    at = [0, 2, 5]
    start = norm64(ours[k].weight for k in at)
    layers = [norm64([ours[k].weight]) for k in at]
    backward(ours), backward(free)
    optimizer.step(), plain.step()
    scale = start / norm64(free[k].weight for k in at)
    for k, layer in enumerate(ours):
        for key, p in layer.named_parameters():
            expected = free[k].get_parameter(key) * (scale if key == "weight" and k in at else 1)
            torch.testing.assert_close(p, expected, rtol=1e-5, atol=1e-6)
    assert abs(norm64(ours[k].weight for k in at) / start - 1) < 1e-6
    assert abs(float(fixing.joint_norm()) / float(fixing.target) - 1) < 1e-6
    # ... and not each layer by itself
    now = [norm64([ours[k].weight]) for k in at]
    assert max(abs(a / b - 1) for a, b in zip(now, layers, strict=True)) > 1e-3


def test_layer_mode_restores_each_norm():
    model = net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    fixing = NormFix(optimizer, model, mode="layer")
    start = [norm64([model[k].weight]) for k in (0, 2, 5)]
    for step in range(3):
        backward(model, step)
        optimizer.step()
    for k, norm in zip((0, 2, 5), start, strict=True):
        assert abs(norm64([model[k].weight]) / norm - 1) < 1e-6
    assert fixing.target.shape == (3,)


def test_resnet50_keeps_its_norm_to_1e_6_in_float64():
    generator = torch.Generator().manual_seed(0)
    model = nn.ModuleList()
    for out, inp, kernel, _ in conv_shapes():
        layer = nn.utils.skip_init(nn.Conv2d, inp, out, kernel, bias=False)
        layer.weight.data.normal_(std=(2 / (inp * kernel**2)) ** 0.5, generator=generator)
        layer.weight.grad = layer.weight.detach().flip(0)
        model.append(layer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    NormFix(optimizer, model)
    start = norm64(model.parameters())
    for step in range(1, 21):
        optimizer.step()
        if step in (1, 2, 10, 20):
            assert abs(norm64(model.parameters()) / start - 1) < 1e-6, step


@pytest.mark.parametrize("shape", [(1,), (3, 5), (4096,), (5000,), (8, 4, 32, 5), (2, 4096)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squared_norms_of_any_shape_and_memory_format(shape, dtype):
    p = torch.randn(shape, dtype=dtype)
    views = [p, p.transpose(0, -1), torch.cat([p, p])[::2]]
    views += [p.to(memory_format=torch.channels_last)] if p.dim() == 4 else []
    for view in views:
        square = norm64([view]) ** 2
        expected = torch.tensor([square, 4 * square], dtype=torch.float64)
        result = squared_norms([view, 2 * view])
        assert result.dtype == torch.float64
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=0)


@pytest.mark.since_torch("2.3", "a GradScaler for the CPU")
@pytest.mark.parametrize("fused", FUSED)
def test_skipped_amp_step_changes_nothing(fused):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **fused)
    fixing = NormFix(optimizer, model)
    with torch.no_grad():
        model[0].weight.mul_(1.5)  # off the target, so that a rescale would show
    before = copy.deepcopy(model.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for overflow in (True, False):
        for p in model.parameters():
            p.grad = scaler.scale(torch.ones_like(p))
        if overflow:
            model[2].weight.grad[0, 0, 0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        same = all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert same == overflow
    assert abs(norm64(fixing._params()) / float(fixing.target) - 1) < 1e-6


def test_frozen_weights_are_neither_counted_nor_rescaled():
    model = net()
    model[0].weight.requires_grad_(False)
    frozen = model[0].weight.clone()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    fixing = NormFix(optimizer, model)
    assert float(fixing.target) == pytest.approx(norm64([model[2].weight, model[5].weight]))
    backward(model)
    optimizer.step()
    assert torch.equal(model[0].weight, frozen)
    fixing.remove()
    conv_only = NormFix(torch.optim.SGD(model.parameters(), lr=0.1), model, weights="conv")
    assert conv_only.names == ["2.weight"]


def test_resume_restores_the_target_exactly():
    model = net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    fixing = NormFix(optimizer, model)
    saved = copy.deepcopy(fixing.state_dict())
    assert saved["version"] == 2
    other = net(seed=1)
    again = NormFix(OPTIMIZERS["sgd"](other.parameters()), other)
    assert again.target != fixing.target
    again.load_state_dict(saved)
    assert torch.equal(again.target, fixing.target)
    again.retarget()
    assert torch.equal(again.target, again.joint_norm())
    for change, words in (
        ({"version": 3}, "version 3"),
        ({"mode": "layer"}, "mode='layer'"),
        ({"selected": ["a.weight"]}, "only there: \\['a.weight'\\]"),
        ({"target": torch.tensor(float("nan"))}, "not a positive norm"),
    ):
        with pytest.raises(ValueError, match=words):
            again.load_state_dict({**saved, **change})
    with pytest.raises(ValueError, match="lacks"):
        again.load_state_dict({"target": 1.0})


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("mode", ["joint", "layer"])
def test_unusable_norms(mode, value):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    fixing = NormFix(optimizer, model, mode=mode)
    for k in (0, 2, 5):
        nn.init.constant_(model[k].weight, value)
        model[k].weight.grad = torch.zeros_like(model[k].weight)
    kept = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="0.weight.* became zero or not finite"):
        optimizer.step()  # must not turn zeros into NaN
    torch.testing.assert_close(model[0].weight.detach(), kept, equal_nan=True)
    fixing.remove()
    with pytest.raises(ValueError, match="0.weight.*initialize"):
        NormFix(optimizer, model, mode=mode)


def test_refusals():
    model = net()
    sgd = lambda **k: torch.optim.SGD(model.parameters(), lr=0.1, **k)  # noqa: E731
    with pytest.raises(ValueError, match="'joint' or 'layer'"):
        NormFix(sgd(), model, mode="each")
    with pytest.raises(ValueError, match="weight_decay"):
        NormFix(sgd(weight_decay=0.1), model)
    with pytest.raises(ValueError, match="no weight to fix"):
        NormFix(sgd(), nn.ReLU())
    with pytest.raises(ValueError, match="float32.*autocast"):
        half = net().bfloat16()
        NormFix(torch.optim.SGD(half.parameters(), lr=0.1), half)
    standardized = WSConv2d(3, 4, 3)
    optimizer = torch.optim.SGD(standardized.parameters(), lr=0.1)
    EpsShift(optimizer, standardized)
    with pytest.raises(ValueError, match="already under ε-shift"):
        NormFix(optimizer, standardized)
    sharded = type("FullyShardedDataParallel", (nn.Sequential,), {})(nn.Conv2d(1, 1, 1))
    with pytest.raises(ValueError, match="sharded"):
        NormFix(torch.optim.SGD(sharded.parameters(), lr=0.1), sharded)


def test_squared_norms_of_a_large_layer_do_not_drift():
    """A float32 sum over ResNet-50's largest weight stalls as it grows."""
    p = torch.randn(512, 4608, generator=torch.Generator().manual_seed(0)) * 0.02
    assert abs(float(squared_norms([p])[0]) / norm64([p]) ** 2 - 1) < 3e-7


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e-20, 1e-9, 1e12, 1e18, 1e19, 1e30, 3e38])
def test_norms_of_any_finite_weight(size, few, monkeypatch):
    """Squares of float32 overflow at 1.8e19 and vanish below 1e-23."""
    monkeypatch.setattr(devices, "few_kernels", lambda _: few)
    torch.manual_seed(0)
    extreme = torch.rand(3, 5000).mul_(2).sub_(1).mul_(size)
    params = [torch.randn(40, 3), extreme, extreme[:, ::2], torch.zeros(7)]
    expected = torch.tensor([p.double().square().sum() for p in params], dtype=torch.float64)
    torch.testing.assert_close(squared_norms(params), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_norm_of_a_weight_that_is_not_finite_shows_it(value, few, monkeypatch):
    monkeypatch.setattr(devices, "few_kernels", lambda _: few)
    params = [torch.randn(9000), torch.randn(3, 3)]
    params[0][8999] = value
    squares = squared_norms(params)
    assert not squares[0].isfinite() and squares[1].isfinite()
    assert not squares.sum().isfinite()


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_a_joint_norm_of_tiny_or_huge_weights_is_held(size):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    with torch.no_grad():
        model[0].weight.mul_(size)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    fixing = NormFix(optimizer, model)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        model[0].weight.grad = size * torch.randn(4, 3, 3, 3, generator=generator)
        optimizer.step()
        assert abs(norm64([model[0].weight]) / float(fixing.target) - 1) < 1e-6
