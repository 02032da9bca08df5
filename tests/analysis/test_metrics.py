"""The two metrics against their definitions, written out sample by sample."""

import subprocess
import sys

import pytest
import torch
from torch.nn.functional import cosine_similarity

from normfix_mm import effective_learning_rate, mean_cross_boundary_risk
from normfix_mm.analysis import metrics


def risk(x, k, weight):
    cosines = []
    for j in range(len(weight)):
        if j != k:
            cosines.append(cosine_similarity(x.double(), (weight[j].double() - weight[k]), dim=0))
    return sum(cosines) / len(cosines)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [40, metrics.CHUNK])
def test_risk_equals_its_definition(dtype, chunk, monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", chunk)
    torch.manual_seed(0)
    x, weight = torch.randn(30, 9, dtype=dtype), torch.randn(7, 9, dtype=dtype)
    labels = torch.randint(0, 7, (30,))
    result = mean_cross_boundary_risk(x, labels, weight)
    expected = torch.stack([risk(a, k, weight) for a, k in zip(x, labels, strict=True)])
    assert result.dtype == dtype
    torch.testing.assert_close(result, expected.to(dtype), rtol=1e-5, atol=1e-6)


def test_two_classes_and_its_sign():
    """A feature along its own class vector leans away from the boundary: −1."""
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    x = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    result = mean_cross_boundary_risk(x, torch.tensor([0, 1, 0]), weight)
    torch.testing.assert_close(result, torch.tensor([-1.0, 1.0, 0.0]))


def test_close_and_equal_class_vectors():
    torch.manual_seed(0)
    base = torch.randn(64) * 100
    weight = base.repeat(5, 1)
    weight[1:4, 0] = torch.nextafter(weight[1:4, 0], torch.tensor(1e9))  # one ulp away
    weight[2, 1:] += 1e-3 * torch.randn(63)
    weight = torch.cat([weight, -weight[:2]])  # far away: no common offset to subtract
    x = torch.randn(12, 64) * 50
    labels = torch.arange(12) % 4
    result = mean_cross_boundary_risk(x, labels, weight)
    # weight[4] equals weight[0] and weight[3] equals weight[1]: those cosines count as 0.
    expected = torch.stack([risk(a, k, weight) for a, k in zip(x, labels, strict=True)])
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-6)


def test_zero_features_and_half_precision():
    weight = torch.randn(4, 6)
    result = mean_cross_boundary_risk(torch.zeros(2, 6).half(), torch.tensor([0, 3]), weight)
    assert torch.equal(result, torch.zeros(2))
    assert mean_cross_boundary_risk(torch.zeros(0, 6), torch.zeros(0).long(), weight).shape == (0,)


@pytest.mark.slow
def test_memory_grows_with_chunks_not_with_samples_times_classes_times_features():
    """40 000 × 200 × 512: 82 MB of arguments; N×C×D would be 16 GB."""
    code = """
import resource, runpy, sys, torch
torch.set_num_threads(1)
mean_cross_boundary_risk = runpy.run_path(sys.argv[1])["mean_cross_boundary_risk"]
x, k, w = torch.randn(40000, 512), torch.randint(0, 200, (40000,)), torch.randn(200, 512)
mean_cross_boundary_risk(x[:8], k[:8], w)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert mean_cross_boundary_risk(x, k, w).isfinite().all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", code, metrics.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 250e6


@pytest.mark.parametrize(
    ("features", "labels", "weight", "words"),
    [
        ((3, 4), [0, 1, 2], (2, 4), "must lie in"),
        ((3, 4), [0, 1, -1], (2, 4), "must lie in"),
        ((3, 4), [0.0, 1.0, 0.0], (2, 4), "integers"),
        ((3, 4), [0, 1], (2, 4), "features"),
        ((3, 4), [0, 1, 0], (2, 5), "C ≥ 2"),
        ((3, 4), [0, 0, 0], (1, 4), "C ≥ 2"),
    ],
)
def test_risk_refuses(features, labels, weight, words):
    with pytest.raises(ValueError, match=words):
        mean_cross_boundary_risk(torch.ones(features), torch.tensor(labels), torch.ones(weight))


def test_effective_learning_rate():
    torch.manual_seed(0)
    w, v = torch.randn(4, 3, 2, 2), torch.randn(5, 2)
    rows = w.double().flatten(1)
    rate = effective_learning_rate
    squares = (w.double() ** 2).sum() + (v.double() ** 2).sum()
    torch.testing.assert_close(rate(0.3, [w, v]), 0.3 / squares)
    torch.testing.assert_close(rate(torch.tensor(0.3).double(), w), 0.3 / (w.double() ** 2).sum())
    torch.testing.assert_close(rate(0.3, w, "WN"), 0.3 / (rows**2).sum(1).sqrt())
    torch.testing.assert_close(rate(0.3, w, "WS"), 0.3 / rows.std(1))
    centered = rows - rows.mean(1, keepdim=True)
    torch.testing.assert_close(rate(0.3, w, "CWN"), 0.3 / centered.norm(dim=1))
    with pytest.raises(ValueError, match="Unknown form"):
        rate(0.3, w, "BN")
    with pytest.raises(ValueError, match="per filter"):
        rate(0.3, [w, v], "WN")
    with pytest.raises(ValueError, match="at least one"):
        rate(0.3, [])


def test_direction_form_is_the_angle_of_a_step():
    """One small step turns W/‖W‖ by η‖∇L(W/‖W‖)‖/‖W‖²: the formula, without its algebra."""
    torch.manual_seed(0)
    w, target = torch.randn(50).double() * 3, torch.randn(50).double()
    w.requires_grad_()
    (w / w.norm() * target).sum().backward()
    turned = w.detach() - 1e-4 * w.grad
    angle = (turned / turned.norm() - w.detach() / w.detach().norm()).norm()
    u = w.detach() / w.detach().norm()
    tangent = target - u * (u @ target)
    torch.testing.assert_close(
        angle / tangent.norm(), effective_learning_rate(1e-4, w), rtol=1e-6, atol=0
    )
