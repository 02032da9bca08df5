"""The gain: where it starts, how long it follows ||W||, and that it survives copies and files."""

import copy
import pickle

import pytest
import torch
from layers.sample_layers import GAINED, sample, train_one_step
from torch import nn

from normfix_mm import FixNormLinear, WNConv2d
from normfix_mm.layers.gain import settle_gains


def test_every_gain_is_the_norm_of_the_present_weight():
    model = nn.Sequential(WNConv2d(3, 4, 3), nn.Conv2d(4, 4, 1), FixNormLinear(4, 5, alpha=9.0))
    for layer in model:
        nn.init.normal_(layer.weight, std=0.7)
    settle_gains(model)
    torch.testing.assert_close(model[0].g.detach(), model[0].weight.detach().flatten(1).norm(dim=1))
    torch.testing.assert_close(model[2].g.detach(), model[2].weight.detach().norm().reshape(1))


def test_a_zero_weight_has_a_direction_before_its_norm_is_taken():
    model = nn.Sequential(WNConv2d(3, 4, 1))
    nn.init.zeros_(model[0].weight)
    settle_gains(model)
    assert model[0].weight.norm() > 0.5 and not model[0].g.any()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("how", ["nn.init", "data", "reset_parameters", "replaced", "adopted"])
@pytest.mark.parametrize("forward_before", [False, True])
def test_gain_follows_a_new_initialization(cls, shape, how, forward_before):
    """Function of a stock layer with the same weight, whenever the weight is initialized."""
    stock_class = cls.__bases__[-1]
    options = {"alpha": 100.0} if "FixNorm" in cls.__name__ else {}
    layer = cls(*shape, **options)
    x = sample(layer)
    if forward_before:
        layer(x)
    if how == "nn.init":
        nn.init.normal_(layer.weight, std=0.5)
    elif how == "data":
        layer.weight.data.normal_(std=0.5)
    elif how == "reset_parameters":
        train_one_step(layer)
        layer.reset_parameters()
    elif how == "replaced":
        layer.weight = nn.Parameter(torch.randn_like(layer.weight))
    else:
        layer = cls.adopt(stock_class(*shape), **options)
    stock = stock_class(*shape)
    stock.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_stale_gain_is_refused_after_training(cls, shape):
    layer = cls(*shape)
    train_one_step(layer)
    x = sample(layer)
    layer(x)
    nn.init.normal_(layer.weight)
    with pytest.raises(RuntimeError, match="reset_gain"):
        layer(x)
    layer.reset_gain()
    layer(x)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_trained_gain_stays_trained(cls, shape):
    """Neither a forward, a copy, a pickle nor a checkpoint lets g fall back to ||W||."""
    layer = cls(*shape, **({"alpha": 100.0} if "FixNorm" in cls.__name__ else {}))
    train_one_step(layer)
    x = sample(layer)
    trained = layer.g.detach().clone()
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    loaded = copy.deepcopy(layer)
    loaded.reset_parameters()
    loaded.load_state_dict(layer.state_dict())
    for one in [*copies, loaded, layer]:
        torch.testing.assert_close(one(x), layer(x), rtol=0, atol=0)
        torch.testing.assert_close(one.g.detach(), trained, rtol=0, atol=0)
    assert not torch.allclose(trained, layer.weight.flatten(1).norm())


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_average_of_an_untrained_copy_keeps_its_gain(cls, shape):
    """EMA copies the model before initialization and then writes through `.data`."""
    layer = cls(*shape)
    average = copy.deepcopy(layer)
    for param in average.parameters():
        param.data.add_(1.0)
    expected = average.g.detach().clone()
    torch.testing.assert_close(average.state_dict()["g"], expected)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_stock_checkpoint_keeps_the_function(cls, shape):
    stock = cls.__bases__[-1](*shape)
    layer = cls(*shape, **({"alpha": 100.0} if "FixNorm" in cls.__name__ else {}))
    train_one_step(layer)
    x = sample(layer)
    layer.load_state_dict(stock.state_dict())  # strict: a missing g is not an error
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_zero_weight_gets_a_direction_and_gain_zero(cls, shape):
    layer = cls(*shape)
    nn.init.zeros_(layer.weight)
    x = sample(layer)
    out = layer(x)
    torch.testing.assert_close(out, (layer.bias.view(-1, *[1] * (out.dim() - 2))).expand_as(out))
    assert (layer.g == 0).all() and (layer.weight != 0).any()
    direction = layer.weight.detach().clone()
    for again in (layer, copy.deepcopy(layer)):  # nor does a later look take the direction for g
        assert torch.equal(again(x), out) and torch.equal(again.weight, direction)
    layer(x).square().sum().backward()
    assert (layer.g.grad != 0).all()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert (layer(x) - out).abs().max() > 0


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_zero_stays_zero_where_rounding_is_another(cls, shape):
    layer = cls(*shape)
    nn.init.normal_(layer.weight)
    with torch.no_grad():
        layer.weight[0] = 0
        if len(layer.g) == 1:
            layer.weight.zero_()
    layer(sample(layer))
    layer.double()
    layer(sample(layer).double())
    norms = layer.weight.detach().flatten(1).norm(dim=1)
    assert layer.g[0] == 0 and norms.all()
    torch.testing.assert_close(layer.g.detach()[1:], norms[1 : len(layer.g)])
    nn.init.normal_(layer.weight, std=2.0)  # and is over where the weight is initialized anew
    layer(sample(layer).double())
    assert layer.g.all()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_layer_built_without_memory(cls, shape):
    with torch.device("meta"):
        layer = cls(*shape)
    layer.to_empty(device="cpu")
    for param in layer.parameters():
        nn.init.normal_(param)
    nn.init.normal_(layer.weight)
    layer(sample(layer))
    norm = layer.weight.detach().reshape(len(layer.g), -1).norm(dim=1)
    torch.testing.assert_close(layer.g.detach(), norm)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_zero_weight_written_behind_our_back_gets_a_direction_too(cls, shape):
    """As mmcv's deformable convolutions do with their offsets."""
    layer = cls(*shape)
    nn.init.zeros_(layer.weight)
    layer.reset_gain()
    layer.weight.data.zero_()
    layer(sample(layer)).square().sum().backward()
    assert not layer.g.any() and layer.g.grad.any() and layer.weight.any()


def test_frozen_layer_compares_no_values(monkeypatch):
    """A frozen layer follows for good; comparing values at every forward would synchronize."""
    layer = WNConv2d(4, 6, 3).requires_grad_(False)
    nn.init.normal_(layer.weight)
    x = sample(layer)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias))
    monkeypatch.setattr(torch, "equal", lambda *_: pytest.fail("compared values"))
    layer(x)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_gain_follows_an_initialization_after_ddp(cls, shape, tmp_path):
    """DDP broadcasts W and g in place when it wraps the model; mmengine initializes later."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        layer = cls(*shape)
        wrapped = nn.parallel.DistributedDataParallel(layer)
        layer.g.data.mul_(1.0)
        with torch.no_grad():  # what a rank other than 0 receives
            layer.weight.copy_(torch.randn_like(layer.weight))
            layer.g.copy_(torch.rand_like(layer.g))
        nn.init.normal_(layer.weight, std=3.0)
        layer.state_dict()
        rows = layer.weight.flatten(1) if layer.gain_per_filter else layer.weight.view(1, -1)
        torch.testing.assert_close(layer.g, rows.norm(dim=1))
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
        wrapped(sample(layer)).square().sum().backward()
        optimizer.step()
        trained = layer.g.detach().clone()
        wrapped(sample(layer))
        torch.testing.assert_close(layer.g.detach(), trained, rtol=0, atol=0)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("fused", [False, True])
def test_a_capped_gain_rests_while_its_weight_trains(fused):
    """Above the cap g has no gradient, and a fused step raises no version counter."""
    layer = FixNormLinear(16, 4, alpha=0.1)
    start = layer.g.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=5.0, fused=fused)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(8, 16)).square().sum().backward()
        optimizer.step()
    layer(torch.randn(8, 16))
    torch.testing.assert_close(layer.g.detach(), start, rtol=0, atol=0)


def test_frozen_gain_follows_an_initialization_and_then_rests():
    layer = WNConv2d(4, 6, 3)
    layer.g.requires_grad_(False)
    nn.init.normal_(layer.weight)
    x = sample(layer)
    out = layer(x)
    torch.testing.assert_close(out, nn.functional.conv2d(x, layer.weight, layer.bias))
    start = layer.g.clone()
    out.square().sum().backward()
    torch.optim.SGD([layer.weight], lr=0.1).step()
    layer(x)
    torch.testing.assert_close(layer.g, start, rtol=0, atol=0)


def test_gain_that_a_user_sets_is_kept():
    for write in (lambda g: g.data.fill_(0.3), lambda g: nn.init.constant_(g, 0.3)):
        layer = WNConv2d(4, 6, 3)
        write(layer.g)
        layer(sample(layer))
        assert (layer.g == 0.3).all()


def test_stock_checkpoint_into_a_layer_built_on_meta():
    stock = nn.Conv2d(4, 6, 3)
    with torch.device("meta"):
        layer = WNConv2d(4, 6, 3)
    layer.load_state_dict(stock.state_dict(), assign=True)
    x = sample(layer)
    torch.testing.assert_close(layer(x), stock(x))
