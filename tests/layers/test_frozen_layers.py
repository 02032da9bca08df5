"""A frozen layer normalizes its weight once, and again only when it has changed."""

import copy

import pytest
import torch
from torch import nn

from normfix_mm import CWNConv2d, FixNormConv2d, FixNormLinear, WNConv2d, WNLinear, WSConv2d, fold
from normfix_mm.layers import functional

CONVS = [
    (WSConv2d, {}),
    (WNConv2d, dict(gain=True)),
    (WNConv2d, dict(gain=False)),
    (CWNConv2d, {}),
    (FixNormConv2d, dict(alpha=0.1)),
]
X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def passes(monkeypatch):
    """How often a weight has been normalized so far."""
    count = [0]

    def counted(original):
        def normalize(*args):
            count[0] += 1
            return original(*args)

        return normalize

    for name in ("standardize", "normalize", "normalize_layer", "center_normalize"):
        monkeypatch.setattr(functional, name, counted(getattr(functional, name)))
    return count


def frozen(cls, options) -> nn.Module:
    torch.manual_seed(1)
    return cls(4, 3, 3, **options).requires_grad_(False)


def expected(layer: nn.Module, x=X) -> torch.Tensor:
    """What the layer must give, by a copy that keeps nothing."""
    return fold(layer)(x)


@pytest.mark.parametrize(("cls", "options"), CONVS)
def test_normalized_once(cls, options, passes):
    layer = frozen(cls, options)
    first = layer(X)
    assert passes == [1]
    for mode in (True, False, True):
        layer.train(mode)
        assert torch.equal(layer(X), first)
    assert passes == [1]
    layer.requires_grad_(True)
    layer(X), layer(X)
    assert passes == [3]
    layer(X).sum().backward()
    assert layer.weight.grad.any()


@pytest.mark.parametrize(("cls", "options"), CONVS)
def test_changes_are_seen(cls, options):
    layer = frozen(cls, options)
    before = layer(X)
    state = {k: torch.randn_like(v) for k, v in layer.state_dict().items()}
    layer.load_state_dict(state)
    torch.testing.assert_close(layer(X), expected(layer))
    assert not torch.allclose(layer(X), before)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.roll(1, 1) + 0.3)
    torch.testing.assert_close(layer(X), expected(layer))
    if getattr(layer, "g", None) is not None:
        with torch.no_grad():
            layer.g.mul_(0.01)
        torch.testing.assert_close(layer(X), expected(layer))
    layer.double()
    assert layer(X.double()).dtype == torch.float64
    torch.testing.assert_close(layer(X.double()), expected(layer, X.double()))
    layer.weight = nn.Parameter(layer.weight * torch.randn_like(layer.weight), requires_grad=False)
    torch.testing.assert_close(layer(X.double()), expected(layer, X.double()))


@pytest.mark.parametrize(("cls", "options"), CONVS)
def test_an_averaged_copy_is_never_out_of_date(cls, options):
    layer = frozen(cls, options)
    layer(X)
    average = copy.deepcopy(layer)  # as an EMA, whose parameters need no gradient
    average(X)
    for param in average.parameters():
        param.data.lerp_(torch.rand_like(param), 0.5)  # nor are their versions counted
    torch.testing.assert_close(average(X), expected(average))


def test_inference_mode_leaves_nothing_that_training_could_not_use():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), frozen(WSConv2d, {}))
    with torch.inference_mode():
        model(X)
    model(X).sum().backward()
    assert model[0].weight.grad.any()


@pytest.mark.parametrize(("cls", "options"), [(WNLinear, {}), (FixNormLinear, dict(alpha=0.1))])
def test_linear_layers_too(cls, options, passes):
    layer = cls(6, 3, **options).requires_grad_(False)
    layer(torch.randn(2, 6)), layer(torch.randn(2, 6))
    assert passes == [1]


def test_a_gain_that_trains_is_not_kept(passes):
    layer = frozen(WNConv2d, dict(gain=True))
    layer.g.requires_grad_(True)
    layer(X).sum().backward()
    layer(X)
    assert passes == [2] and layer.g.grad.any()


@pytest.mark.parametrize(("cls", "option"), [(WSConv2d, "eps"), (FixNormConv2d, "alpha")])
def test_a_changed_option_is_seen(cls, option):
    layer = frozen(cls, {option: 0.01})
    before = layer(X)
    setattr(layer, option, 0.02)
    assert not torch.allclose(layer(X), before)
    torch.testing.assert_close(layer(X), expected(layer))


@pytest.mark.parametrize(("cls", "options"), CONVS)
def test_what_training_did_in_between_is_seen(cls, options):
    """Also where versions do not tell: fused optimizers, norm fixing, an EMA's swap."""
    layer = frozen(cls, options)
    layer(X)
    layer.requires_grad_(True)
    layer(X).square().sum().backward()
    for _ in range(2):
        layer.weight.data.copy_(layer.weight.roll(1, 1) + 0.3)
        layer.requires_grad_(False)
        torch.testing.assert_close(layer(X), expected(layer))


def test_weights_of_the_moment_are_not_mistaken_for_each_other():
    """A tensor that is gone may leave its id and its address to the next."""
    layer = frozen(WSConv2d, dict(bias=False))
    for seed in range(20):
        weight = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
        found = torch.func.functional_call(layer, {"weight": weight}, (X,))
        true = nn.functional.conv2d(X, functional.standardize(weight, layer.eps))
        del weight
        torch.testing.assert_close(found, true)
