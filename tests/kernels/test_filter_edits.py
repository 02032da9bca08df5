"""The ε-shift's edits, in pieces as a CPU takes them and many at once as a GPU does."""

import math
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from normfix_mm.kernels import devices, filter_edits

FORMS = ["WS", "AWS", "WN", "CWN"]


@pytest.fixture(params=["pieces", "many at once"])
def way(request, monkeypatch):
    monkeypatch.setattr(devices, "few_kernels", lambda _: request.param == "many at once")
    return request.param


def by_hand(weight: Tensor, form: str, eps: float) -> Tensor:
    """The edit for λ = 1 in exact sums, one filter after another."""
    rows = []
    for row in weight.detach().double().flatten(1).tolist():
        mu = 0.0 if form == "WN" else math.fsum(row) / len(row)
        norm = math.sqrt(math.fsum((x - mu) ** 2 for x in row))
        size = norm / math.sqrt(max(len(row) - 1, 1)) if form in ("WS", "AWS") else norm
        ratio = eps / size if size > 1e-300 else 0.0
        rows.append([(1 - ratio) * (x - mu) + mu for x in row])
    return torch.tensor(rows, dtype=torch.float64).view(weight.shape)


def some_weights(dtype=torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(5, 3, 3, 3), (4, 3, 3, 3), (6, 8, 1, 1), (3, 1, 1, 1), (4, 3, 3, 3), (2, 7)]
    weights = [torch.randn(s, dtype=torch.float64).mul_(0.1).add_(0.05).to(dtype) for s in shapes]
    weights[4] = weights[4].to(memory_format=torch.channels_last)
    return weights


def relative(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-300))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factors", [[], [-1.0, torch.tensor(3.0)], [torch.tensor(2.0)]])
def test_edits_equal_the_formula(way, form, dtype, factors):
    weights = some_weights(dtype)
    targets = [torch.randn_like(w) for w in weights]
    sources = [t.clone() for t in targets]
    new = filter_edits.edited(weights, sources, [form] * len(weights), 0.3, 0.02, factors)
    assert all(torch.equal(a, b) for a, b in zip(sources, targets))
    filter_edits.add_edits(weights, targets, [form] * len(weights), 0.3, 0.02, factors)
    scale = 0.3 * math.prod(float(f) for f in factors)
    tol = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2**-7}[dtype]
    if any(isinstance(f, Tensor) for f in factors):
        tol = max(tol, 1e-7)  # a float32 rate is as exact as that
    for k, weight in enumerate(weights):
        exact = sources[k].double() + scale * by_hand(weight, form, 0.02)
        assert relative(targets[k], exact) < tol and relative(new[k], exact) < tol
        assert new[k].dtype == dtype and new[k].shape == weight.shape


def test_a_gradient_in_another_memory_format(way):
    for weight, target in ((False, True), (True, False)):
        w = torch.randn(4, 3, 3, 3).contiguous(memory_format=formats[weight])
        t = torch.zeros(4, 3, 3, 3).contiguous(memory_format=formats[target])
        (new,) = filter_edits.edited([w], [t], ["WS"], 0.5, 0.1, [])
        filter_edits.add_edits([w], [t], ["WS"], 0.5, 0.1, [])
        for ours in (t, new):
            torch.testing.assert_close(ours.double(), 0.5 * by_hand(w, "WS", 0.1))


formats = {False: torch.contiguous_format, True: torch.channels_last}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0.0, 1e-40, 1e-30, 1e-12, 1e12, 1e19, 1e30, 3e38])
def test_filters_of_any_size_get_a_finite_edit(way, form, size):
    torch.manual_seed(0)
    weight = torch.rand(3, 64, 3, 3).mul_(2).sub_(1).mul_(size)
    target = torch.zeros_like(weight)
    filter_edits.add_edits([weight], [target], [form], 0.5, 1e-3, [])
    assert target.isfinite().all()
    if size >= 1 or (form == "WN" and size >= 1e-30):
        assert relative(target, 0.5 * by_hand(weight, form, 1e-3)) < 1e-5
    if size == 0:
        assert not target.any()


@pytest.mark.parametrize("form", FORMS)
def test_nan_stays_visible(way, form):
    weight, target = torch.randn(3, 4, 3, 3), torch.zeros(3, 4, 3, 3)
    weight[1, 0, 0, 0] = float("nan")
    filter_edits.add_edits([weight], [target], [form], 0.5, 1e-3, [])
    assert target[1].isnan().any() and target[::2].isfinite().all()


def test_many_at_once_take_a_handful_of_kernels(monkeypatch):
    """ResNet-50 has 53 convolutions of 11 shapes of filters."""
    folder = Path(__file__).parents[2] / "benchmarks"
    shapes = runpy.run_path(str(folder / "resnet50_shapes.py"))["conv_shapes"]()
    views = ("view", "split", "detach", "alias", "t.", "permute", "expand", "slice", "reshape")

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if not any(word in str(func) for word in views) and "empty" not in str(func):
                calls.append(str(func))
            return func(*args, **(kwargs or {}))

    calls: list[str] = []
    weights = [torch.randn(s[0], s[1] // 8 or 1, *s[2:]) for s in shapes]
    monkeypatch.setattr(devices, "few_kernels", lambda _: True)
    with Count():
        filter_edits.edited(weights, weights, ["WS"] * 53, 1e-4, 1e-3, [1.0])
    assert len(calls) <= 5 * 11 + 1, calls
