"""Gains through checkpoints that are not of the usual form: computed weights, distributed ones."""

import copy

import pytest
import torch
from layers.sample_layers import GAINED, sample, train_one_step
from torch import nn
from torch.distributed import checkpoint as dcp
from torch.nn.utils import parametrize, prune

from normfix_mm import FixNormConv2d, FixNormLinear, WNConv2d, WNPointwiseConv2d
from normfix_mm.layers.gain import settle_gains


class Twice(nn.Module):
    def forward(self, w):
        return 2 * w

    def right_inverse(self, w):
        return w / 2


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


def parametrized(layer):
    parametrize.register_parametrization(layer, "weight", Twice())
    return layer


@pytest.mark.parametrize("spoil", [pruned, parametrized])
@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_layer_with_a_computed_weight_resumes_with_its_gain(spoil, cls, shape):
    layer, other = spoil(cls(*shape)), spoil(cls(*shape))
    train_one_step(layer)
    other.load_state_dict(layer.state_dict())
    settle_gains(other)
    x = sample(layer)
    assert torch.equal(other.g, layer.g)
    torch.testing.assert_close(other(x), layer(x))


@pytest.mark.parametrize("spoil", [pruned, parametrized])
def test_a_computed_weight_takes_no_gain_of_another_weight(spoil):
    layer, stranger = spoil(WNConv2d(4, 6, 3)), WNConv2d(4, 6, 3)
    nn.init.constant_(stranger.g, 7.0)
    missing = layer.load_state_dict(stranger.state_dict(), strict=False).missing_keys
    assert "g" in missing
    torch.testing.assert_close(layer.g, layer.weight.flatten(1).norm(dim=1))


def test_a_computed_gain_is_loaded_or_cannot_be_set():
    layers = [WNConv2d(4, 6, 3) for _ in range(2)]
    for layer in layers:
        parametrize.register_parametrization(layer, "g", Twice())
    train_one_step(layers[0])
    layers[1].load_state_dict(layers[0].state_dict())
    torch.testing.assert_close(layers[1].g, layers[0].g)
    with pytest.raises(ValueError, match="computed by a parametrization"):
        layers[1].load_state_dict(nn.Conv2d(4, 6, 3).state_dict(), strict=False)


def test_a_gain_of_another_count_is_an_error_and_leaves_none_that_is_stale():
    filters, whole = WNConv2d(4, 6, 1), WNPointwiseConv2d(4, 6, 1)
    with pytest.raises(RuntimeError, match="size mismatch for g"):
        whole.load_state_dict(filters.state_dict())
    assert torch.equal(whole.weight, filters.weight)
    torch.testing.assert_close(whole.g.detach(), whole.weight.detach().norm().view(1))


def network():
    return nn.Sequential(WNConv2d(3, 8, 3), nn.BatchNorm2d(8), FixNormConv2d(8, 5, 1, alpha=9.0))


def trained():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 6, 6)).square().mean().backward()
        optimizer.step()
    return model


def state_dict_functions():
    name = "torch.distributed.checkpoint.state_dict"
    return pytest.importorskip(name, reason="torch 2.2 brought it")


def in_place(model, folder):
    """Written into the tensors of the model, and nobody else told."""
    dcp.load(model.state_dict(), checkpoint_id=folder)


def by_load_state_dict(model, folder):
    state = {k: torch.zeros_like(v) for k, v in model.state_dict().items()}
    dcp.load(state, checkpoint_id=folder)
    model.load_state_dict(state)


def by_torch_s_state_dict_functions(model, folder):
    functions = state_dict_functions()
    state = functions.get_model_state_dict(model)
    dcp.load(state, checkpoint_id=folder)
    functions.set_model_state_dict(model, state)


@pytest.mark.since_torch("2.2", "torch.distributed.checkpoint.save")
@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, that only one process is there
@pytest.mark.parametrize("load", [in_place, by_load_state_dict, by_torch_s_state_dict_functions])
@pytest.mark.parametrize("on_meta", [False, True])
def test_a_distributed_checkpoint(load, on_meta, tmp_path):
    torch.manual_seed(0)
    model = trained()
    dcp.save(model.state_dict(), checkpoint_id=tmp_path)
    if on_meta:
        with torch.device("meta"):
            other = network()
        other.to_empty(device="cpu")
    else:
        other = network()
    load(other, tmp_path)
    settle_gains(other)
    x = torch.randn(4, 3, 6, 6)
    assert torch.equal(copy.deepcopy(other).train()(x), copy.deepcopy(model).train()(x))
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def updated(model, checkpoint):
    """The state dict of a model, with what fits of a checkpoint: the usual way to load a part."""
    state = model.state_dict()
    fits = {k: v for k, v in checkpoint.items() if k in state and v.shape == state[k].shape}
    return state | fits


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_state_dict_updated_with_stock_weights_keeps_the_function(cls, shape):
    """The g in it is the layer's own, which belongs to the weight that is replaced."""
    stock = cls.__bases__[-1](*shape)
    layer = cls(*shape, **({"alpha": 100.0} if "FixNorm" in cls.__name__ else {}))
    x = sample(layer)
    layer.load_state_dict(updated(layer, stock.state_dict()))
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-5, atol=1e-6)
    nn.init.normal_(layer.weight, std=0.01)  # and it is nobody's still
    settle_gains(layer)
    torch.testing.assert_close(layer.g.detach(), norms(layer))


def test_so_does_that_of_a_model_made_on_meta():
    stock = nn.Conv2d(4, 6, 3)
    with torch.device("meta"):
        layer = WNConv2d(4, 6, 3)
    layer.load_state_dict(updated(layer, stock.state_dict()), assign=True)
    x = sample(layer)
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, that only one process is there
def test_torch_s_full_state_dict_of_stock_weights_keeps_the_function():
    stock, model = nn.Sequential(nn.Conv2d(4, 6, 3)), nn.Sequential(WNConv2d(4, 6, 3))
    functions = state_dict_functions()
    options = functions.StateDictOptions(full_state_dict=True)
    functions.set_model_state_dict(model, stock.state_dict(), options=options)
    x = sample(model[0])
    torch.testing.assert_close(model(x), stock(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", [FixNormConv2d, WNPointwiseConv2d])
def test_a_state_dict_updated_with_another_head_s_leaves_its_gain_out(cls):
    """A classifier of 5 classes into one of 7: of the weights none fits, g would."""
    other, layer = cls(4, 5, 1), cls(4, 7, 1)
    train_one_step(other)
    nn.init.normal_(layer.weight, std=0.01)
    with pytest.warns(UserWarning, match="another weight's gain"):
        layer.load_state_dict(updated(layer, other.state_dict()))
    torch.testing.assert_close(layer.g.detach(), norms(layer))


def test_nor_does_one_that_starts_at_its_cap_take_another_head_s_gain():
    other = FixNormConv2d(4, 5, 1, alpha=9.0)
    train_one_step(other)
    layer = FixNormConv2d(4, 7, 1, alpha=9.0, gain_start="cap")
    with pytest.warns(UserWarning, match="another weight's gain"):
        layer.load_state_dict(updated(layer, other.state_dict()))
    assert layer.g.item() == pytest.approx(layer.cap)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_trained_gain_stays_when_a_state_dict_changes_the_weight_alone(cls, shape):
    layer = cls(*shape)
    train_one_step(layer)
    g = layer.g.detach().clone()
    layer.load_state_dict(layer.state_dict() | {"weight": layer.weight.detach() * 3})
    settle_gains(layer)
    assert torch.equal(layer.g, g)
    layer.load_state_dict(layer.state_dict() | {"g": 2 * g})  # nor is one that is meant left out
    assert torch.equal(layer.g, 2 * g)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_whole_state_of_its_own_is_loaded_like_any_other(cls, shape):
    """From then on g is no longer anybody's to set."""
    layer = cls(*shape)
    g = layer.g.detach().clone()
    layer.load_state_dict(layer.state_dict())
    assert torch.equal(layer.g, g)
    with torch.no_grad():
        layer.weight.mul_(3)
    settle_gains(layer)
    assert torch.equal(layer.g, g)


@pytest.mark.parametrize("cls", [FixNormConv2d, FixNormLinear])
def test_a_cap_that_cuts_a_loaded_weight_says_so(cls, recwarn):
    shape = (4, 6, 1)[: 3 if cls is FixNormConv2d else 2]
    stock = nn.Sequential(cls.__bases__[-1](*shape))
    nn.Sequential(cls(*shape, alpha=9.0)).load_state_dict(stock.state_dict())
    own = nn.Sequential(cls(*shape, alpha=0.1))
    nn.Sequential(cls(*shape, alpha=0.1)).load_state_dict(own.state_dict())  # as it was trained
    assert not recwarn
    with pytest.warns(UserWarning, match="^0: the norm of the loaded weight, .* above the cap"):
        own.load_state_dict(stock.state_dict())


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("public", [False, True])
def test_a_hook_of_the_layer_that_renames_is_heeded(cls, shape, public):
    """As one that reads files of an older version."""
    layer, other = cls(*shape), cls(*shape)
    calls = []

    def rename(state, prefix):
        calls.append(prefix)
        state[prefix + "g"] = state.pop(prefix + "scale")

    if public and not hasattr(layer, "register_load_state_dict_pre_hook"):
        pytest.skip(f"torch {torch.__version__} has this hook by its private name alone")
    if public:
        layer.register_load_state_dict_pre_hook(
            lambda _, state, prefix, *rest: rename(state, prefix)
        )
    else:
        layer._register_load_state_dict_pre_hook(lambda state, prefix, *rest: rename(state, prefix))
    train_one_step(other)
    state = dict(other.state_dict())
    state["scale"] = state.pop("g")
    layer.load_state_dict(state)
    assert torch.equal(layer.g, other.g)
    assert torch.equal(layer.weight, other.weight)
    assert calls == [""]


def norms(layer):
    return layer.weight.detach().reshape(len(layer.g), -1).norm(dim=1)
