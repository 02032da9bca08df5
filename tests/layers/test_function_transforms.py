"""What torch does with a function beside calling it: second derivatives, torch.func, tracing."""

import io

import pytest
import torch
from layers.sample_layers import GAINED, sample
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, vmap

from normfix_mm import CWNConv2d, WSConv2d, reset_gains
from normfix_mm.layers import functional

GAIN = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
FUNCTIONS = {
    "WS": lambda w: functional.standardize(w, 0.1),
    "WN": lambda w: functional.normalize(w, GAIN.to(w.real)),
    "CWN": functional.center_normalize,
    "layer": lambda w: functional.normalize_layer(w, GAIN[:1].to(w.real)),
}


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


def some_weight(**kwargs) -> torch.Tensor:
    return torch.randn(3, 2, 2, 2, dtype=torch.float64, **kwargs)


def test_second_derivatives(function):
    torch.manual_seed(0)
    assert torch.autograd.gradgradcheck(function, (some_weight(requires_grad=True),))


def test_second_derivatives_with_a_gain():
    gain = GAIN.clone().requires_grad_()
    weight = some_weight(requires_grad=True)
    assert torch.autograd.gradgradcheck(functional.normalize, (weight, gain))
    layer = functional.normalize_layer
    assert torch.autograd.gradgradcheck(layer, (weight, gain.detach()[:1].requires_grad_()))


def test_hessian_of_torch_func_equals_autograds(function):
    torch.manual_seed(0)
    weight, direction = some_weight(), some_weight()

    def loss(w):
        return (function(w) * direction).sum().sin()

    expected = torch.autograd.functional.hessian(loss, weight)
    torch.testing.assert_close(hessian(loss)(weight), expected)


def test_many_weights_at_once(function):
    weights = torch.randn(5, 3, 2, 2, 2)
    for dim in (0, 2):
        batched = vmap(function, dim, dim)(weights.movedim(0, dim)).movedim(dim, 0)
        torch.testing.assert_close(batched, torch.stack([function(w) for w in weights]))


def test_gradients_of_each_sample():
    """Those of vmap(grad) are those of one sample after another."""
    torch.manual_seed(0)
    model = nn.Sequential(WSConv2d(3, 4, 3), nn.ReLU(), CWNConv2d(4, 2, 3), nn.Flatten())
    model.double()
    params = {k: p.detach() for k, p in model.named_parameters()}
    pictures = torch.randn(4, 3, 7, 7, dtype=torch.float64)

    def loss(params, picture):
        return functional_call(model, params, (picture[None],)).square().sum()

    each = vmap(grad(loss), (None, 0))(params, pictures)
    for k, picture in enumerate(pictures):
        model.zero_grad()
        model(picture[None]).square().sum().backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(each[name][k], p.grad)


def test_a_zero_filter_has_a_zero_gradient_there_too(function):
    weight = some_weight()
    weight[1] = 0
    for direction in (grad(lambda w: function(w).square().sum())(weight),):
        assert direction.isfinite().all()
    leaf = weight.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(leaf).sin().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    assert first.isfinite().all() and second.isfinite().all()


def test_a_traced_model_needs_nothing_of_ours():
    model, x = nn.Sequential(WSConv2d(3, 4, 3), CWNConv2d(4, 2, 3)), torch.randn(1, 3, 7, 7)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, x), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    assert "normfix_mm::" not in str(loaded.inlined_graph)
    torch.testing.assert_close(loaded(x), model(x))


HALF = pytest.param(
    torch.float16, marks=pytest.mark.since_torch("2.4", "autocast to float16 on a CPU")
)


@pytest.mark.parametrize("dtype", [torch.bfloat16, HALF])
def test_autocast_leaves_the_statistics_in_fp32(function, dtype):
    weight = some_weight().float().requires_grad_()
    with torch.autocast("cpu", dtype):
        out = function(weight)
    assert out.dtype == torch.float32
    assert torch.equal(out, function(weight))


def test_only_an_unused_gain_gets_no_gradient():
    weight, gain = some_weight(requires_grad=True), GAIN.clone()
    functional.normalize(weight, gain).sum().backward()
    assert weight.grad is not None and gain.grad is None
    frozen = some_weight()
    functional.normalize(frozen, gain.requires_grad_()).sum().backward()
    unit = frozen / frozen.flatten(1).norm(dim=1).view(3, 1, 1, 1)
    torch.testing.assert_close(gain.grad, unit.flatten(1).sum(1))
    assert not functional.standardize(frozen).requires_grad


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_forward_mode_derivatives_of_a_layer_nobody_has_trained(cls, shape):
    """torch.func's jvp and hessian, and torch's dual numbers, equal the reverse mode."""
    torch.manual_seed(0)
    layer = cls(*shape).double()
    x, weight = sample(layer).double()[:1], layer.weight.detach().clone()
    tangent = torch.randn_like(weight)

    def loss(w):
        return functional_call(layer, {"weight": w}, (x,)).sin().sum()

    expected = (torch.func.grad(loss)(weight) * tangent).sum()
    torch.testing.assert_close(torch.func.jvp(loss, (weight,), (tangent,))[1], expected)
    with forward_ad.dual_level():
        out = loss(forward_ad.make_dual(weight, tangent))
        torch.testing.assert_close(forward_ad.unpack_dual(out).tangent.detach(), expected)
    assert hessian(loss)(weight).shape == weight.shape * 2


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("each_sample", [False, True])
def test_a_weight_initialized_late_is_one_sentence_there_too(cls, shape, each_sample):
    layer = cls(*shape)
    nn.init.normal_(layer.weight, std=3.0)
    x = sample(layer)

    def gradients():
        params = {k: p.detach() for k, p in layer.named_parameters()}
        if each_sample:
            one = grad(lambda p, x: functional_call(layer, p, (x[None],)).square().sum())
            return vmap(one, (None, 0))(params, x)
        return grad(lambda p: functional_call(layer, p, (x,)).square().sum())(params)

    with pytest.raises(RuntimeError, match="reset_gains"):
        gradients()
    reset_gains(layer)
    gradients()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_layer_without_memory_of_its_own_can_be_made_and_run(cls, shape):
    """As torch's estimators of memory and time do."""
    with FakeTensorMode():
        layer = cls(*shape)
        assert layer(torch.empty(sample(layer).shape)).shape[0] == 2


def test_a_complex_weight_is_one_sentence(function):
    with pytest.raises(ValueError, match="complex"):
        function(torch.randn(3, 2, 2, 2, dtype=torch.complex64))
