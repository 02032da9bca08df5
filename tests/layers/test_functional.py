"""The normalized weights against the papers' formulas written with plain autograd operations."""

import pytest
import torch
from torch import Tensor

from normfix_mm.layers import functional

SHAPES = [(8, 4, 3, 3), (3, 1, 1, 2), (5, 64, 1, 1), (2, 512, 3, 3)]


def ws_formula(weight: Tensor, eps: float = 1e-5) -> Tensor:
    rows = weight.flatten(1)
    mean, std = rows.mean(1, keepdim=True), rows.std(1, unbiased=True, keepdim=True)
    return ((rows - mean) / (std + eps)).view_as(weight)


def wn_formula(weight: Tensor, gain: Tensor) -> Tensor:
    rows = weight.flatten(1)
    return (gain[:, None] * rows / rows.norm(dim=1, keepdim=True)).view_as(weight)


def cwn_formula(weight: Tensor) -> Tensor:
    rows = weight.flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    return (rows / rows.norm(dim=1, keepdim=True)).view_as(weight)


def layer_formula(weight: Tensor, gain: Tensor) -> Tensor:
    return weight / weight.norm() * gain


def pairs(weight: Tensor) -> dict:
    gain = torch.linspace(0.5, 2, len(weight)).to(weight)
    return {
        "WS": (functional.standardize, ws_formula),
        "WN": (lambda w: functional.normalize(w, gain), lambda w: wn_formula(w, gain)),
        "CWN": (functional.center_normalize, cwn_formula),
        "layer": (
            lambda w: functional.normalize_layer(w, gain[:1]),
            lambda w: layer_formula(w, gain[:1]),
        ),
    }


@pytest.mark.parametrize("name", ["WS", "WN", "CWN", "layer"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("offset", [0.0, 0.01])
def test_value_and_gradient_equal_the_formula(name, shape, dtype, tol, offset):
    torch.manual_seed(0)
    weight = (torch.randn(shape, dtype=dtype) * 0.02 + offset).requires_grad_()
    grad = torch.randn_like(weight)
    ours, formula = (f(weight) for f in pairs(weight)[name])
    torch.testing.assert_close(ours, formula, rtol=tol, atol=tol)
    (ours_grad,) = torch.autograd.grad(ours, weight, grad)
    (formula_grad,) = torch.autograd.grad(formula, weight, grad)
    scale = formula_grad.abs().max() + 1 / weight.detach().norm()  # some gradients are zero
    torch.testing.assert_close(ours_grad / scale, formula_grad / scale, rtol=tol, atol=tol)


def test_standardize_is_accurate_far_from_zero_mean():
    # Where ||w||^2 - n mu^2 would have lost every digit.
    weight = torch.randn(4, 64, 3, 3, dtype=torch.float64) * 0.01 + 10
    ours = functional.standardize(weight.float()).double()
    exact = ws_formula(weight.float().double())
    assert (ours - exact).abs().max() < 2e-3  # the rounding of w - mu itself: 10 * 2^-24 / 0.01


@pytest.mark.parametrize("name", ["WS", "WN", "CWN", "layer"])
def test_gradcheck(name):
    torch.manual_seed(0)
    weight = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pairs(weight.detach())[name][0], (weight,))


def test_gain_gradcheck():
    weight = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    gain = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(functional.normalize, (weight, gain))
    assert torch.autograd.gradcheck(functional.normalize_layer, (weight, gain[:1]))


@pytest.mark.parametrize("name", ["WS", "WN", "CWN", "layer"])
@pytest.mark.parametrize(
    "weight",
    [
        torch.zeros(2, 3, 3, 3),
        torch.full((2, 3, 3, 3), 0.1),
        torch.full((2, 512, 3, 3), 1e3),
        torch.full((2, 1, 1, 1), 0.3),
        torch.full((2, 1, 1, 1), -1e-30),
        torch.zeros(2, 1, 1, 1),
    ],
    ids=["zero", "constant", "large constant", "one element", "tiny element", "zero element"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_degenerate_filters_stay_finite(name, weight, dtype):
    weight = weight.to(dtype).requires_grad_()
    out = pairs(weight.detach())[name][0](weight)
    (grad,) = torch.autograd.grad(out, weight, torch.randn_like(out))
    assert out.isfinite().all() and grad.isfinite().all()


def test_degenerate_filter_leaves_its_neighbours_alone():
    weight = torch.randn(3, 4, 3, 3)
    weight[1] = 0
    for function in (functional.standardize, functional.normalize, functional.center_normalize):
        out = function(weight)
        torch.testing.assert_close(out[::2], function(weight[::2]))
        assert (out[1] == 0).all()


def test_zero_filter_of_standardize_has_the_formulas_gradient():
    weight = torch.zeros(2, 3, 3, 3, requires_grad=True)
    grad = torch.randn_like(weight)
    (ours,) = torch.autograd.grad(functional.standardize(weight), weight, grad)
    expected = (grad - grad.flatten(1).mean(1).view(2, 1, 1, 1)) / 1e-5
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1)


def test_statistics_in_fp32_whatever_the_weights_precision():
    weight = (torch.randn(8, 256, 3, 3) * 1e-3).to(torch.bfloat16)
    out = functional.standardize(weight)
    assert out.dtype == torch.bfloat16
    expected = ws_formula(weight.double()).to(torch.bfloat16)
    torch.testing.assert_close(out, expected, rtol=2**-7, atol=1e-6)


def test_channels_last_weight():
    weight = torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    plain = weight.detach().contiguous().requires_grad_()
    grad = torch.randn(8, 4, 3, 3)
    for function in (functional.standardize, functional.normalize, functional.center_normalize):
        ours, expected = function(weight), function(plain)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(
            *(torch.autograd.grad(o, w, grad)[0] for o, w in ((ours, weight), (expected, plain)))
        )
