"""The gain is a parameter like any other; where it starts, and who may set it."""

import copy
import io
import pickle

import pytest
import torch
from helpers.fused import FUSED
from layers.sample_layers import GAINED, sample, train_one_step
from torch import nn

from normfix_mm import (
    EpsShift,
    FixNormConv2d,
    FixNormLinear,
    NormFix,
    WNConv2d,
    WNLinear,
    reset_gains,
)
from normfix_mm.layers.gain import settle_gains


def wide(cls):
    """Options that keep FixNorm's cap out of the way."""
    return {"alpha": 100.0} if "FixNorm" in cls.__name__ else {}


def norms(layer):
    return layer.weight.detach().reshape(len(layer.g), -1).norm(dim=1)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("how", ["made", "adopted", "reset_parameters", "reset_gains", "settled"])
@pytest.mark.parametrize("write", ["nn.init", "data", "replaced"])
def test_where_a_gain_is_set_it_is_the_norm(cls, shape, how, write):
    """The layer is then the stock layer with the same weight."""
    stock_class = cls.__bases__[-1]
    layer = cls(*shape, **wide(cls))
    if how == "adopted":
        layer = cls.adopt(stock_class(*shape), **wide(cls))
    elif how == "reset_parameters":
        train_one_step(layer)
        layer.reset_parameters()
    elif how != "made":
        if write == "nn.init":
            nn.init.normal_(layer.weight, std=0.5)
        elif write == "data":
            layer.weight.data.normal_(std=0.5)
        else:
            layer.weight = nn.Parameter(torch.randn_like(layer.weight))
        reset_gains(layer) if how == "reset_gains" else settle_gains(layer)
    x, stock = sample(layer), stock_class(*shape)
    stock.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("training", [False, True])
def test_forward_writes_nothing(cls, shape, training):
    layer = cls(*shape).train(training)
    x = sample(layer)
    for change in (lambda: None, lambda: layer.g.data.mul_(0.5), lambda: train_one_step(layer)):
        change()
        before = {name: p.detach().clone() for name, p in layer.named_parameters()}
        layer(x), layer(x).sum().backward()
        for name, p in layer.named_parameters():
            assert torch.equal(p, before[name]), name


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_weight_initialized_before_training_has_its_gain_without_anybody_s_care(cls, shape):
    layer = cls(*shape)
    nn.init.normal_(layer.weight, std=3.0)
    x, g = sample(layer), layer.g.detach().clone()
    layer.eval()(x)  # looking at it changes nothing
    assert torch.equal(layer.g, g)
    layer.train()(x).sum().backward()
    torch.testing.assert_close(layer.g.detach(), norms(layer))
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_training_a_weight_that_was_initialized_late_is_one_sentence(cls, shape):
    """After a first forward in training mode, so that nobody knows whether it was training."""
    layer = cls(*shape)
    x = sample(layer)
    layer(x)
    nn.init.normal_(layer.weight, std=3.0)
    with pytest.raises(RuntimeError, match="reset_gains"):
        layer(x)
    reset_gains(layer)
    layer(x).sum().backward()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("attach", [EpsShift, NormFix])
def test_attaching_a_treatment_sets_it(cls, shape, attach):
    model = nn.Sequential(cls(*shape, **wide(cls)), nn.Flatten(), WNConv2d(4, 4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=0.5)
    attach(optimizer, model, include="2.weight")
    for layer in (model[0], model[2]):
        torch.testing.assert_close(layer.g.detach(), norms(layer))


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("settle", [settle_gains, lambda m: attach_again(m)])
def test_whoever_writes_the_weight_of_a_trained_layer_keeps_its_gain(cls, shape, frozen, settle):
    """Noise, masks, clipping, a new initialization: also where g had no gradient so far."""
    layer = cls(*shape, **({"alpha": 1e-3} if "FixNorm" in cls.__name__ else {}))
    layer.g.requires_grad_(not frozen)
    train_one_step(layer)
    g = layer.g.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(3.0).clamp_(-0.5, 0.5)
    settle(layer)
    layer.eval()(sample(layer)), layer.train()(sample(layer))
    assert torch.equal(layer.g, g)


def attach_again(layer):
    NormFix(torch.optim.SGD(layer.parameters(), lr=0.1), nn.Sequential(layer)).remove()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_gain_that_somebody_wrote_is_kept(cls, shape):
    for write in (lambda g: g.data.fill_(0.3), lambda g: nn.init.constant_(g, 0.3)):
        layer = cls(*shape)
        write(layer.g)
        settle_gains(layer)
        layer(sample(layer))
        assert (layer.g == 0.3).all()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_trained_gain_stays_trained(cls, shape):
    """Neither a forward, a copy, a pickle nor a checkpoint lets g fall back to ||W||."""
    layer = cls(*shape, **wide(cls))
    train_one_step(layer)
    x = sample(layer)
    trained = layer.g.detach().clone()
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    loaded = copy.deepcopy(layer)
    loaded.reset_parameters()
    loaded.load_state_dict(layer.state_dict())
    for one in [*copies, loaded, layer]:
        settle_gains(one)
        torch.testing.assert_close(one(x), layer(x), rtol=0, atol=0)
        torch.testing.assert_close(one.g.detach(), trained, rtol=0, atol=0)
    assert not torch.allclose(trained, norms(layer))


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_an_average_is_the_average(cls, shape):
    """Copied before training and written in place, whichever way."""
    layer = cls(*shape, **wide(cls))
    average = copy.deepcopy(layer)
    by_hand = {k: v.clone() for k, v in layer.state_dict().items()}
    for _ in range(3):
        train_one_step(layer)
        with torch.no_grad():
            for (k, a), b in zip(average.state_dict().items(), layer.state_dict().values()):
                a.lerp_(b, 0.3)
                by_hand[k].lerp_(b, 0.3)
        average.eval()(sample(layer)), average.train()(sample(layer))
    for k, a in average.state_dict().items():
        assert torch.equal(a, by_hand[k]), k


def test_torch_s_own_average():
    torch.manual_seed(0)
    model = nn.Sequential(WNConv2d(3, 4, 3), nn.BatchNorm2d(4), FixNormConv2d(4, 5, 1, alpha=9.0))
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.3), []
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 6, 6)).square().sum().backward()
        optimizer.step()
        average.update_parameters(model)
        average.eval()(torch.randn(4, 3, 6, 6))
        seen.append(model[2].g.detach().clone())
    torch.testing.assert_close(average.module[2].g.detach(), torch.stack(seen).mean(0))


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_functional_calls_use_and_leave_the_caller_s_tensors(cls, shape):
    trained, fresh = cls(*shape, **wide(cls)), cls(*shape, **wide(cls))
    train_one_step(trained)
    x = sample(trained)
    tensors = {k: v.detach().clone() for k, v in trained.named_parameters()}
    before = {k: v.clone() for k, v in tensors.items()}
    for training in (False, True):
        out = torch.func.functional_call(fresh.train(training), tensors, (x,))
        torch.testing.assert_close(out, trained(x), rtol=0, atol=0)
    assert all(torch.equal(tensors[k], before[k]) for k in tensors)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_functional_call_with_a_weight_alone_leaves_the_layer_s_gain(cls, shape):
    """As of networks that make weights, and of steps that adapt them."""
    layer = cls(*shape)
    weight = (layer.weight.detach() * 1.5).requires_grad_()
    for change in (lambda: None, lambda: train_one_step(layer)):
        change()
        g, x = layer.g.detach().clone(), sample(layer)
        for _ in range(2):
            out = torch.func.functional_call(layer, {"weight": weight}, (x,))
            torch.testing.assert_close(
                out, torch.func.functional_call(layer, {"weight": 2 * weight}, (x,))
            )
            out.sum().backward()
        assert torch.equal(layer.g, g)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("how", ["one by one", "copy_"])
def test_loaders_that_set_parameters_themselves(cls, shape, how):
    trained, fresh = cls(*shape, **wide(cls)), cls(*shape, **wide(cls))
    train_one_step(trained)
    for name, value in list(trained.named_parameters()):
        if how == "copy_":
            with torch.no_grad():
                getattr(fresh, name).copy_(value)
        else:
            setattr(fresh, name, nn.Parameter(value.detach().clone()))
    settle_gains(fresh)
    x = sample(trained)
    torch.testing.assert_close(fresh(x), trained(x), rtol=0, atol=0)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_stock_checkpoint_keeps_the_function(cls, shape):
    stock = cls.__bases__[-1](*shape)
    layer = cls(*shape, **wide(cls))
    train_one_step(layer)
    x = sample(layer)
    layer.load_state_dict(stock.state_dict())  # strict: a missing g is not an error
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("left_out", ["absent", "of another shape"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_gain_is_not_loaded_without_its_weight(cls, shape, left_out, trained):
    """As of a classifier of 5 classes in one of 7, whose g would fit."""
    other = cls(*shape, **wide(cls))
    train_one_step(other)
    state = other.state_dict()
    state["weight"] = state["weight"][:-1]
    layer = cls(*shape, **wide(cls))
    nn.init.normal_(layer.weight, std=0.01)
    if trained:
        reset_gains(layer)
        train_one_step(layer)
    before = layer.g.detach().clone()
    if left_out == "absent":
        del state["weight"]
        assert "g" in layer.load_state_dict(state, strict=False).missing_keys
    else:
        with pytest.raises(RuntimeError, match="size mismatch"):
            layer.load_state_dict(state, strict=False)
    torch.testing.assert_close(layer.g.detach(), before if trained else norms(layer))


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_zero_weight_gets_a_direction_and_gain_zero(cls, shape):
    layer = cls(*shape)
    nn.init.zeros_(layer.weight)
    settle_gains(layer)
    x = sample(layer)
    out = layer(x)
    torch.testing.assert_close(out, (layer.bias.view(-1, *[1] * (out.dim() - 2))).expand_as(out))
    assert (layer.g == 0).all() and (layer.weight != 0).any()
    direction = layer.weight.detach().clone()
    for again in (layer, copy.deepcopy(layer)):  # nor does a later look take the direction for g
        settle_gains(again)
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
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        layer.to(dtype)
        settle_gains(layer)
        assert layer.g[0] == 0 and norms(layer).all()
        torch.testing.assert_close(layer.g.detach()[1:], norms(layer)[1:], rtol=0.01, atol=0)
    nn.init.normal_(layer.weight, std=2.0)  # and is over where the weight is initialized anew
    settle_gains(layer)
    assert layer.g.all()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_layer_built_without_memory(cls, shape):
    with torch.device("meta"):
        layer = cls(*shape)
    layer.to_empty(device="cpu")
    nn.init.normal_(layer.weight)
    settle_gains(layer)
    torch.testing.assert_close(layer.g.detach(), norms(layer))


def test_stock_checkpoint_into_a_layer_built_on_meta():
    stock = nn.Conv2d(4, 6, 3)
    with torch.device("meta"):
        layer = WNConv2d(4, 6, 3)
    layer.load_state_dict(stock.state_dict(), assign=True)
    x = sample(layer)
    torch.testing.assert_close(layer(x), stock(x))


@pytest.mark.parametrize("fused", FUSED)
def test_a_capped_gain_rests_while_its_weight_trains(fused):
    layer = FixNormLinear(16, 4, alpha=0.1)
    start = layer.g.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=5.0, **fused)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(8, 16)).square().sum().backward()
        optimizer.step()
    layer(torch.randn(8, 16))
    settle_gains(layer)
    torch.testing.assert_close(layer.g.detach(), start, rtol=0, atol=0)


def test_a_forward_before_the_weights_are_initialized():
    """To find out shapes, say: it is no training."""
    layer = WNConv2d(4, 6, 3)
    layer(sample(layer))
    nn.init.normal_(layer.weight, std=0.01)
    settle_gains(layer)
    torch.testing.assert_close(layer.g.detach(), norms(layer))


@pytest.mark.parametrize("start", ["cap", 12.0])
def test_a_gain_may_start_elsewhere(start):
    layer = FixNormLinear(16, 4, alpha=4.0, gain_start=start)
    value = 8.0 if start == "cap" else 12.0
    assert layer.g == value
    nn.init.normal_(layer.weight)
    settle_gains(layer)
    layer(torch.randn(2, 16)).sum().backward()
    assert layer.g == value
    layer.reset_parameters()
    assert layer.g == value
    stock = nn.Linear(16, 4)
    layer.load_state_dict(stock.state_dict())
    settle_gains(layer)
    torch.testing.assert_close(layer.g.detach(), stock.weight.detach().norm().reshape(1))


@pytest.mark.parametrize("start", ["caps", 0.0, -1.0, float("inf"), None, True])
def test_an_invalid_start_is_refused(start):
    with pytest.raises(ValueError, match="gain_start"):
        FixNormLinear(16, 4, gain_start=start)
    with pytest.raises(ValueError, match="gain_start"):
        WNConv2d(4, 4, 1, gain_start="cap")


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("training", [False, True])
def test_tracing_and_inference_mode(cls, shape, training):
    """Also of a layer that nobody has trained, looked at or taken care of yet."""
    layer = cls(*shape).train(training)
    x = sample(layer)
    traced = torch.jit.trace(layer, x)
    torch.jit.save(traced, io.BytesIO())
    torch.testing.assert_close(traced(x), layer(x))
    with torch.inference_mode():
        made = cls(*shape).eval()
        torch.testing.assert_close(layer(x), traced(x))
        made(x)


@pytest.mark.since_torch("2.4", "layers of ours in an exported graph")
@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("training", [False, True])
def test_exporting(cls, shape, training):
    layer = cls(*shape).train(training)
    x = sample(layer)
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), layer(x))
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), exported(x))


@pytest.mark.parametrize("layer_class", [WNLinear, FixNormLinear])
def test_the_gain_of_a_large_layer_has_all_digits(layer_class):
    """A box head's first layer has 13 million weights, VGG's 103 million."""
    linear = nn.Linear(12544, 1024, bias=False)
    before = linear.weight.detach().double()
    layer = layer_class.adopt(linear)
    assert abs(float(layer.g.double()) / float(before.norm()) - 1) < 1e-6
    if layer_class is WNLinear:
        with torch.no_grad():
            change = layer.normalized_weight().double() - before
        assert float(change.norm() / before.norm()) < 1e-6
