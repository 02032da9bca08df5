"""The layers as users meet them: function, gain, copies, checkpoints, compilers, autocast."""

import copy
import io
import math

import pytest
import torch
from layers.sample_layers import sample, train_one_step
from torch import nn

from normfix_mm import (
    CWNConv2d,
    FixNormConv2d,
    FixNormLinear,
    WNConv2d,
    WNConvTranspose2d,
    WNLinear,
    WNPointwiseConv2d,
    WSConv2d,
    fold,
    reset_gains,
)

CONVS = [
    (WSConv2d, {}),
    (WNConv2d, {}),
    (WNConv2d, {"gain": False}),
    (CWNConv2d, {}),
    (FixNormConv2d, {"alpha": 0.5}),
    (WNPointwiseConv2d, {}),
]
LINEARS = [(WNLinear, {}), (FixNormLinear, {"alpha": 0.5})]


def make(cls, options, **more):
    shape = (4, 6) if issubclass(cls, nn.Linear) else (4, 6, 3)
    return cls(*shape, **options, **more)


@pytest.mark.parametrize(("cls", "options"), CONVS + LINEARS)
def test_direct_subclass_with_the_stock_parameters(cls, options):
    layer = make(cls, options)
    assert {nn.Conv2d, nn.Linear} & set(cls.__bases__)
    names = {name for name, _ in layer.named_parameters()}
    gained = getattr(layer, "g", None) is not None
    assert names == {"weight", "bias"} | ({"g"} if gained else set())


@pytest.mark.parametrize(("cls", "options"), CONVS)
@pytest.mark.parametrize(
    "conv",
    [
        {},
        {"stride": 2, "padding": 1, "bias": False},
        {"padding": 2, "dilation": 2, "groups": 2},
        {"padding": 1, "padding_mode": "reflect"},
    ],
)
def test_convolves_with_the_normalized_weight(cls, options, conv):
    layer = make(cls, options, **conv)
    stock = nn.Conv2d(4, 6, 3, **conv)
    stock.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "g"})
    stock.weight.data = layer.normalized_weight().detach()
    x = sample(layer)
    torch.testing.assert_close(layer(x), stock(x))


@pytest.mark.parametrize(
    "conv",
    [
        {},
        {"stride": 2, "padding": 1, "output_padding": 1, "bias": False},
        {"stride": 2, "dilation": 2, "groups": 2},
    ],
)
def test_transposed_convolution_with_one_gain(conv):
    layer = WNConvTranspose2d(4, 6, 3, **conv)
    stock = nn.ConvTranspose2d(4, 6, 3, **conv)
    stock.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "g"})
    x = sample(layer)
    torch.testing.assert_close(layer(x), stock(x))
    train_one_step(layer)
    with torch.no_grad():
        stock.bias = layer.bias
        stock.weight.copy_(layer.g * layer.weight / layer.weight.square().sum().sqrt())
    assert layer.g.shape == (1,) and not torch.allclose(layer.weight.norm(), layer.g)
    torch.testing.assert_close(layer(x), stock(x))
    if conv.get("stride") == 2:
        size = [19, 20] if "dilation" in conv else [15, 16]
        torch.testing.assert_close(layer(x, size), stock(x, size))


@pytest.mark.needs("mmcv")
def test_ws_equals_mmcv_conv_ws():
    from mmcv.cnn.bricks.conv_ws import ConvWS2d

    for groups in (1, 4):
        ours, theirs = WSConv2d(4, 8, 3, groups=groups), ConvWS2d(4, 8, 3, groups=groups)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 4, 8, 8)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_wn_conv_is_per_filter_and_wn_linear_per_layer():
    conv, linear = WNConv2d(4, 6, 3), WNLinear(4, 6)
    assert conv.g.shape == (6,) and linear.g.shape == (1,)
    for layer in (conv, linear):
        train_one_step(layer)  # from here on g is its own
    before = conv.normalized_weight(), linear.normalized_weight()
    for layer in (conv, linear):
        layer.weight.data[0] *= 3
    torch.testing.assert_close(conv.normalized_weight(), before[0])
    assert not torch.allclose(linear.normalized_weight(), before[1])


@pytest.mark.parametrize("cls", [FixNormConv2d, FixNormLinear])
def test_fixnorm_bounds_the_gain_at_alpha_root_outputs(cls):
    layer = make(cls, {"alpha": 0.5})
    cap = 0.5 * math.sqrt(6)
    assert layer.cap == pytest.approx(cap)
    for g, length, slope in ((0.3, 0.3, True), (1e3, cap, False)):
        layer.g.data.fill_(g)
        layer.zero_grad()
        out = layer.normalized_weight()
        assert out.norm().item() == pytest.approx(length, rel=1e-6)
        out.sum().backward()
        assert bool(layer.g.grad.abs() > 0) is slope  # eq. 10: no gradient above the cap
    torch.testing.assert_close(out / cap, layer.weight / layer.weight.norm())


@pytest.mark.parametrize("alpha", [0.1, 1 / 3, 1.0])
@pytest.mark.parametrize("how", ["cast", "folded"])
def test_rounding_does_not_put_a_gain_above_its_cap(alpha, how):
    """At the cap g has a gradient: also after a cast, or as the norm of a folded weight."""
    for classes in range(1, 40):
        torch.manual_seed(classes)
        layer = FixNormLinear(16, classes, alpha=alpha, gain_start="cap")
        if how == "folded":
            state = fold(layer).state_dict()
            layer = FixNormLinear(16, classes, alpha=alpha)
            layer.load_state_dict(state)
        else:
            layer = layer.double()
        out = layer.normalized_weight()
        assert out.norm().item() <= layer.cap * (1 + 1e-6)
        out.sum().backward()
        assert layer.g.grad != 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [1e6, 1e308, math.inf])
def test_a_cap_that_no_gain_can_reach_is_none(dtype, alpha):
    layer = FixNormLinear(16, 4, alpha=alpha).to(dtype)
    out = layer.normalized_weight()
    torch.testing.assert_close(out, layer.weight, rtol=0.01, atol=1e-4)
    out.sum().backward()
    assert layer.g.grad != 0


def test_bias_is_outside_the_normalization():
    layer = FixNormLinear(4, 6)
    torch.testing.assert_close(layer(torch.zeros(1, 4))[0], layer.bias)


@pytest.mark.parametrize(("cls", "options"), CONVS + LINEARS)
def test_state_dict_through_a_file(cls, options):
    layer, other = make(cls, options), make(cls, options)
    nn.init.normal_(layer.weight)
    reset_gains(layer)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    x = sample(layer)
    torch.testing.assert_close(other(x), layer(x), rtol=0, atol=0)


@pytest.mark.parametrize(("cls", "options"), CONVS + LINEARS)
def test_compiled_equals_eager(cls, options):
    torch._dynamo.reset()
    layer = make(cls, options)
    eager = copy.deepcopy(layer)
    compiled = torch.compile(layer, backend="aot_eager")
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (layer, eager)]
    for _ in range(3):
        x = sample(layer)
        outs = compiled(x), eager(x)
        torch.testing.assert_close(*outs, rtol=0, atol=0)
        for out, optimizer in zip(outs, optimizers, strict=True):
            optimizer.zero_grad()
            out.square().mean().backward()
            optimizer.step()
    for a, b in zip(layer.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(("cls", "options"), CONVS + LINEARS)
def test_fp32_statistics_under_autocast(cls, options):
    layer = make(cls, options)
    expected = layer.normalized_weight()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = layer.normalized_weight()
        out = layer(sample(layer))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(weight, expected, rtol=0, atol=0)
    out.float().square().sum().backward()
    assert layer.weight.grad.dtype == torch.float32 and layer.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FixNormConv2d(4, 6, 3, alpha=-1.0), "alpha"),
        (lambda: FixNormLinear(4, 6, alpha=0.0), "alpha"),
        (lambda: WSConv2d(4, 6, 3, eps=-1e-5), "eps"),
        *[
            (lambda value=value: WSConv2d(4, 6, 3, eps=value), "eps")
            for value in (0, float("nan"), float("inf"), "1e-5", True, None)
        ],
        *[
            (lambda value=value: FixNormLinear(4, 6, alpha=value), "alpha")
            for value in (float("nan"), "1.0", True, None)
        ],
        (lambda: FixNormLinear(4, 6, alpha=float("inf"), gain_start="cap"), "alpha"),
        *[
            (lambda value=value: WNConv2d(4, 6, 3, gain=value), "gain")
            for value in ("false", None, 0.5)
        ],
    ],
)
def test_bad_options_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_repr_names_the_options():
    assert "alpha=0.5" in repr(FixNormConv2d(4, 6, 3, alpha=0.5))
    assert "gain=False" in repr(WNConv2d(4, 6, 3, gain=False))
    assert "eps=1e-05" in repr(WSConv2d(4, 6, 3))
