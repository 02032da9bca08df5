"""The normalized weights against the papers' formulas written with plain autograd operations."""

import pytest
import torch
from torch import Tensor

from normfix_mm.layers import functional

FORMS = ["WS", "WN", "CWN", "layer"]
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


def relative(ours: Tensor, exact: Tensor) -> float:
    """The largest error, in parts of the largest value."""
    return float((ours.double() - exact.double()).abs().max() / exact.double().abs().max())


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


@pytest.mark.parametrize("name", FORMS)
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


@pytest.mark.parametrize("name", FORMS)
def test_gradcheck(name):
    torch.manual_seed(0)
    weight = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pairs(weight.detach())[name][0], (weight,))


def test_gain_gradcheck():
    weight = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    gain = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(functional.normalize, (weight, gain))
    assert torch.autograd.gradcheck(functional.normalize_layer, (weight, gain[:1]))


NO_DIRECTION = {
    "zero": torch.zeros(2, 3, 3, 3),
    "constant": torch.full((2, 3, 3, 3), 0.1),
    "large constant": torch.full((2, 512, 3, 3), 1e3),
    "huge constant": torch.full((2, 512, 3, 3), 3e38),
    "tiny constant": torch.full((2, 3, 3, 3), -1e-30),
    "one element": torch.full((2, 1, 1, 1), 0.3),
    "tiny element": torch.full((2, 1, 1, 1), -1e-30),
    "huge element": torch.full((2, 1, 1, 1), 3e38),
    "zero element": torch.zeros(2, 1, 1, 1),
}
SIZES = [
    1e-45,
    1e-40,
    1.2e-38,
    1e-30,
    1e-20,
    1e-12,
    1e-7,
    1e7,
    1e12,
    1e13,
    1e18,
    1e19,
    1e30,
    3e38,
]  # fp32's range
HALF = torch.float16
DTYPES = [torch.float64, torch.float32, torch.bfloat16, HALF]


def value_and_gradients(function, weight):
    weight = weight.detach().clone().requires_grad_()
    out = function(weight)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    (weight_grad,) = torch.autograd.grad(out, weight, grad)
    return out.detach(), weight_grad, grad


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", NO_DIRECTION)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_filter_without_direction_gives_zero_and_stays_finite(name, kind, dtype):
    most = torch.finfo(dtype).max
    weight = NO_DIRECTION[kind].double().clamp(-most, most).to(dtype)
    out, weight_grad, grad = value_and_gradients(pairs(weight)[name][0], weight)
    assert out.isfinite().all() and weight_grad.isfinite().all()
    if not weight.any() or name == "CWN":
        assert not out.any()
        assert name == "WS" or not weight_grad.any()
    if name == "WS":  # the deviation is zero: (w - mu) / eps
        assert out.abs().max() < 1e-3
        rows = grad.double().flatten(1)
        expected = ((rows - rows.mean(1, keepdim=True)) / 1e-5).view_as(weight)
        expected = expected.clamp(-most, most).to(dtype)
        torch.testing.assert_close(weight_grad, expected, rtol=2e-2, atol=1)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("size", "dtype"),
    [(s, d) for s in SIZES for d in DTYPES if s <= torch.finfo(d).max and (s > 1e-8 or d != HALF)],
)
@pytest.mark.parametrize("shape", [(3, 4, 3, 3), (2, 512, 3, 3)])
def test_filters_of_any_size(name, size, dtype, shape):
    torch.manual_seed(0)
    weight = torch.rand(shape).mul_(2).sub_(1).mul_(size).to(dtype)
    out, weight_grad, _ = value_and_gradients(pairs(weight)[name][0], weight)
    assert out.isfinite().all() and weight_grad.isfinite().all()
    if size < 1e-35 or not weight.any():
        return  # filters that fade, or have lost their digits
    exact, exact_grad, _ = value_and_gradients(pairs(weight.double())[name][1], weight.double())
    tol = {torch.float64: 1e-10, torch.float32: 1e-6}.get(dtype, torch.finfo(dtype).eps)
    assert relative(out, exact) < tol
    if dtype == HALF:
        exact_grad = exact_grad.clamp(-65504, 65504)
    assert relative(weight_grad, exact_grad) < 20 * tol or exact_grad.abs().max() < 1e-37


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_stay_visible_in_their_filter(name, value):
    weight = torch.randn(3, 4, 3, 3)
    good = pairs(weight)[name][0](weight)
    weight[1, 2, 0, 1] = value
    out, grad, _ = value_and_gradients(pairs(weight)[name][0], weight)
    assert not out[1].isfinite().all() and not grad[1].isfinite().all()
    if name != "layer":
        torch.testing.assert_close(out[::2], good[::2])
        assert grad[::2].isfinite().all()


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_overflow_that_comes_in_goes_out(name, dtype):
    """A gradient scaler must see it, whatever the dtype."""
    weight = torch.randn(3, 4, 3, 3).to(dtype).requires_grad_()
    grad = torch.randn_like(weight)
    grad[1, 0, 0, 0] = float("inf")
    (out,) = torch.autograd.grad(pairs(weight.detach())[name][0](weight), weight, grad)
    assert not out[1].isfinite().all()


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
        assert ours.is_contiguous(memory_format=torch.channels_last)


def test_a_weight_that_is_no_whole_tensor():
    whole = torch.randn(4, 8, 3, 3)
    for weight in (whole[:, ::2], whole.transpose(0, 1), whole.permute(3, 0, 2, 1)):
        for name in FORMS:
            ours, formula = pairs(weight)[name]
            for a, b in zip(
                value_and_gradients(ours, weight), value_and_gradients(formula, weight)
            ):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_gain_of_another_count_is_refused(count):
    """A kernel would read past its end."""
    weight, gain = torch.randn(4, 3, 3, 3), torch.ones(count)
    with pytest.raises(ValueError, match=f"has {count} elements, and 4 are"):
        functional.normalize(weight, gain)
    if count != 1:
        with pytest.raises(ValueError, match="and 1 are"):
            functional.normalize_layer(weight, gain)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8])
def test_what_is_not_real_is_refused(dtype):
    """A complex weight would lose its imaginary part."""
    weight = torch.ones(2, 3, dtype=dtype)
    for normalize in (
        functional.standardize,
        functional.normalize,
        functional.normalize_layer,
        functional.center_normalize,
    ):
        with pytest.raises(ValueError, match=str(dtype)):
            normalize(weight)
