"""A gain starts right wherever the layer has been: cast, emptied, compiled, replicated."""

import copy

import pytest
import torch
from layers.sample_layers import GAINED, sample
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from normfix_mm import EpsShift, FixNormConv2d, FixNormLinear, WNConv2d, WNLinear, reset_gains
from normfix_mm.layers.gain import settle_gains


def wide(cls):
    """Options that keep FixNorm's cap out of the way."""
    return {"alpha": 100.0} if "FixNorm" in cls.__name__ else {}


def norms(layer):
    return layer.weight.detach().double().reshape(len(layer.g), -1).norm(dim=1).to(layer.g.dtype)


def late(cls, shape):
    """A layer whose weight was initialized after it was made."""
    layer = cls(*shape, **wide(cls))
    nn.init.normal_(layer.weight, std=3.0)
    return layer


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_cast_before_the_weights_are_initialized(cls, shape, dtype):
    """There and back rounds g, which is nobody's writing."""
    layer = cls(*shape).to(dtype).float()
    nn.init.normal_(layer.weight, std=3.0)
    layer(sample(layer)).sum().backward()
    torch.testing.assert_close(layer.g.detach(), norms(layer))


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_gain_written_into_empty_memory_is_kept(cls, shape):
    """As loaders of large models do: built on meta, emptied, each parameter written in place."""
    with torch.device("meta"):
        layer = cls(*shape)
    layer.to_empty(device="cpu")
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.full(p.shape, 0.3))
    settle_gains(layer)
    layer(sample(layer)).sum().backward()
    assert (layer.g == 0.3).all()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("training", [False, True])
def test_a_gain_that_a_loader_left_without_memory_is_one_sentence(cls, shape, training):
    """Stock weights put one by one in the place of those of a model made on meta."""
    stock = cls.__bases__[-1](*shape)
    with torch.device("meta"):
        layer = cls(*shape, **wide(cls)).train(training)
    for name, p in stock.named_parameters():
        setattr(layer, name, nn.Parameter(p.detach().clone()))
    x = sample(layer)
    with pytest.raises(ValueError, match="The gain is on meta.*reset_gains"):
        layer(x)
    reset_gains(layer)
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fill", [0.0, float("nan")])
def test_memory_that_nobody_has_written_is_no_gain(fill):
    layer = WNConv2d(4, 6, 3)._apply(lambda p: torch.full_like(p, fill))
    nn.init.normal_(layer.weight)
    settle_gains(layer)
    torch.testing.assert_close(layer.g.detach(), norms(layer))


@pytest.mark.parametrize("start", ["cap", 12.0])
def test_a_gain_that_starts_elsewhere_does_so_from_empty_memory(start):
    with torch.device("meta"):
        layer = FixNormLinear(16, 4, alpha=4.0, gain_start=start)
    layer.to_empty(device="cpu")
    nn.init.normal_(layer.weight)
    settle_gains(layer)
    assert layer.g == (8.0 if start == "cap" else 12.0)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("looked_at", [False, True])
def test_training_a_compiled_layer(cls, shape, looked_at):
    """The compiler sees neither that a weight was initialized late nor that training begins."""
    torch._dynamo.reset()
    layer = cls(*shape, **wide(cls))
    if looked_at:  # a forward in training mode, after which the layer settles nothing by itself
        layer(sample(layer))
    nn.init.normal_(layer.weight, std=3.0)
    compiled = torch.compile(layer, backend="eager")
    if looked_at:
        with pytest.raises(RuntimeError, match="reset_gains"):
            compiled(sample(layer))
        return
    compiled(sample(layer)).sum().backward()
    torch.testing.assert_close(layer.g.detach(), norms(layer))
    with torch.no_grad():
        layer.weight.mul_(3.0)  # is training's doing from now on
    g = layer.g.detach().clone()
    settle_gains(layer)
    compiled(sample(layer))
    assert torch.equal(layer.g, g)


@pytest.mark.since_torch("2.4", "layers of ours in a compiled graph")
def test_in_one_graph_after_the_first_step():
    model = nn.Sequential(WNConv2d(4, 6, 3), FixNormConv2d(6, 4, 1, alpha=9.0))
    x = sample(model[0])
    for training in (False, True):
        torch._dynamo.reset()
        compiled = torch.compile(model.train(training), backend="eager", fullgraph=True)
        if training:
            with pytest.raises(torch._dynamo.exc.Unsupported, match="begin_alone"):
                compiled(x)
            model(x).square().sum().backward()
        torch.testing.assert_close(compiled(x), model(x))


class Net(nn.Module):
    """Its forward is the frame that is compiled; those of torch's containers are not."""

    def __init__(self):
        super().__init__()
        self.one, self.two = WNConv2d(4, 6, 3), WNConv2d(6, 4, 3)

    def forward(self, x):
        return self.two(self.one(x).relu())


@pytest.mark.since_torch("2.4", "layers of ours in a compiled graph")
def test_who_takes_care_of_a_model_leaves_one_graph():
    torch._dynamo.reset()
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    EpsShift(optimizer, model)
    for layer in (model.one, model.two):
        nn.init.normal_(layer.weight, std=3.0)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    out = torch.compile(model, backend=count)(sample(model.one))
    assert len(graphs) == 1
    for layer in (model.one, model.two):
        torch.testing.assert_close(layer.g.detach(), norms(layer))
    out.sum().backward()
    optimizer.step()


def replicated(layer):
    """What torch.nn.parallel.replicate does, which wants GPUs: copies on which tensors stand in the
    place of parameters."""
    replica = layer._replicate_for_data_parallel()
    for name, param in layer._parameters.items():
        setattr(replica, name, param.view_as(param))
    return replica


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_training_replicas(cls, shape):
    layer = late(cls, shape)
    replicated(layer)(sample(layer)).sum().backward()
    torch.testing.assert_close(layer.g.detach(), norms(layer))
    g = layer.g.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(3.0)
    replicated(layer)(sample(layer)).sum().backward()  # it is being trained: no word about its g
    settle_gains(layer)
    assert torch.equal(layer.g, g)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_replicas_of_a_layer_initialized_after_a_first_look(cls, shape):
    layer = cls(*shape)
    layer(sample(layer))
    nn.init.normal_(layer.weight, std=3.0)
    replicated(layer.eval())(sample(layer))  # evaluation changes nothing
    with pytest.raises(RuntimeError, match="reset_gains"):
        replicated(layer.train())


def test_data_parallel_trains_as_the_model_does():
    torch.manual_seed(0)
    model = nn.Sequential(WNConv2d(4, 6, 3), nn.ReLU(), FixNormConv2d(6, 4, 1, alpha=9.0))
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=0.5)
    other, x = copy.deepcopy(model), sample(model[0])
    parallel = nn.DataParallel(other)
    for one in (model, parallel):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            one(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_functional_step_with_a_late_weight_is_one_sentence(cls, shape):
    layer = late(cls, shape)
    params = {k: p.detach().requires_grad_() for k, p in layer.named_parameters()}
    with pytest.raises(RuntimeError, match="reset_gains"):
        torch.func.functional_call(layer, params, (sample(layer),))
    reset_gains(layer)
    params = {k: p.detach().requires_grad_() for k, p in layer.named_parameters()}
    torch.func.functional_call(layer, params, (sample(layer),)).sum().backward()
    assert params["weight"].grad is not None


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("size", [1e-30, 1e25, 1e36])
def test_the_norm_of_huge_and_tiny_weights(cls, shape, size):
    """Whose squares float32 cannot hold."""
    layer = cls(*shape, **wide(cls))
    with torch.no_grad():
        layer.weight.mul_(size)
    before = layer.weight.detach().clone()
    reset_gains(layer)
    torch.testing.assert_close(layer.g.detach(), norms(layer), rtol=1e-5, atol=0)
    assert torch.equal(layer.weight, before)


def test_a_norm_that_half_precision_cannot_hold_is_one_sentence():
    layer = WNLinear(512, 512).half()
    nn.init.constant_(layer.weight, 300.0)
    with pytest.raises(ValueError, match="exceeds what a gain of torch.float16 can hold"):
        reset_gains(layer)
    nn.init.constant_(layer.weight, float("inf"))  # which is not the norm's doing, and is seen
    reset_gains(layer)
    assert not layer.g.isfinite()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpointed_layer_starts_right(cls, shape, use_reentrant):
    """The first forward of a reentrant checkpoint has no gradients."""
    layer = cls(*shape, **({"alpha": 1e3} if "FixNorm" in cls.__name__ else {}))
    nn.init.normal_(layer.weight, std=3.0)
    stock = cls.__bases__[-1](*shape)
    stock.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    x = sample(layer).requires_grad_()
    out = checkpoint(layer, x, use_reentrant=use_reentrant)
    torch.testing.assert_close(out, stock(x), rtol=1e-4, atol=1e-4)
    out.sum().backward()
    torch.testing.assert_close(layer.g.detach(), norms(layer))


@pytest.mark.parametrize(("cls", "shape"), GAINED)
@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_a_forward_without_gradients_is_no_training(cls, shape, without):
    """It writes no g, and one to come settles it."""
    layer = cls(*shape)
    g = layer.g.detach().clone()
    for std in (3.0, 0.1):
        nn.init.normal_(layer.weight, std=std)
        with without():
            layer(sample(layer))
        assert torch.equal(layer.g, g)
    layer(sample(layer)).sum().backward()
    torch.testing.assert_close(layer.g.detach(), norms(layer))


def test_a_search_among_weights_leaves_the_gain_alone():
    """Evolution strategies perturb weights and look, in the mode a model is made in."""
    layer = FixNormLinear(16, 4, alpha=9.0)
    x, before = torch.randn(8, 16), copy.deepcopy(layer.state_dict())
    with torch.no_grad():
        for _ in range(3):
            noise = torch.randn_like(layer.weight)
            layer.weight += noise
            layer(x)
            layer.weight -= noise
    torch.testing.assert_close(layer.state_dict(), before)


def test_recalibrating_the_norms_of_an_average_leaves_its_gains_alone():
    """torch's update_bn runs the average in training mode; a frozen or capped g has not moved."""
    model = nn.Sequential(WNConv2d(4, 6, 3), nn.BatchNorm2d(6), FixNormConv2d(6, 4, 1, alpha=9.0))
    model[0].g.requires_grad_(False)
    average = torch.optim.swa_utils.AveragedModel(model)
    x, g = sample(model[0]), model[0].g.detach().clone()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        average.update_parameters(model)
    torch.optim.swa_utils.update_bn([x], average)
    assert torch.equal(average.module[0].g, g)


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_weight_that_is_not_a_number_is_not_told_to_be_initialized_late(cls, shape):
    """It is seen in what the layer puts out."""
    layer = cls(*shape)
    nn.init.constant_(layer.weight, float("nan"))
    for _ in range(2):
        assert layer(sample(layer)).isnan().all()


@pytest.mark.parametrize("made", [WNConv2d, WNLinear])
def test_a_weight_initialized_after_a_zero_one_was_looked_at_is_one_sentence(made):
    layer = made(4, 6, *[3] * (made is WNConv2d))
    nn.init.zeros_(layer.weight)
    reset_gains(layer)
    layer(sample(layer))
    nn.init.normal_(layer.weight)
    with pytest.raises(RuntimeError, match="reset_gains"):
        layer(sample(layer))


class Noisy(nn.Module):
    def forward(self, w):
        return w * (1 + 0.5 * torch.randn(len(w), *[1] * (w.dim() - 1)))


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_computed_weight_may_be_another_at_each_forward(cls, shape):
    torch.manual_seed(0)
    layer = cls(*shape)
    parametrize.register_parametrization(layer, "weight", Noisy())
    for _ in range(3):
        out = layer(sample(layer))
    out.sum().backward()
