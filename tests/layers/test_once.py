"""A layer that is used several times in one forward normalizes its weight once, and all agrees."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from normfix_mm import CWNConv2d, FixNormConv2d, WNConv2d, WNConvTranspose2d, WSConv2d, reset_gains
from normfix_mm.layers import functional
from normfix_mm.layers.once import once_a_forward

LAYERS = [
    (WSConv2d, (4, 4, 3), {}),
    (WNConv2d, (4, 4, 3), {}),
    (WNConv2d, (4, 4, 3), dict(gain=False)),
    (CWNConv2d, (4, 4, 3), {}),
    (FixNormConv2d, (4, 4, 3), dict(alpha=0.1)),
    (WNConvTranspose2d, (4, 4, 3), {}),
]


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


class Head(nn.Module):
    """One layer over several levels, as a dense head has it."""

    def __init__(self, layer, shared=True):
        super().__init__()
        self.layer, self.shared = layer, shared

    def forward(self, levels, via=lambda layer, x: layer(x)):
        if not self.shared:
            return [via(self.layer, x) for x in levels]
        with once_a_forward():
            return [via(self.layer, x) for x in levels]


def levels(*sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, s, s, generator=generator, dtype=dtype) for s in sizes or (9, 6, 4)]


def heads(cls, shape, options):
    torch.manual_seed(1)
    one = Head(cls(*shape, **options).double())
    reset_gains(one)  # in double precision
    other = copy.deepcopy(one)
    other.shared = False
    return one, other


@pytest.mark.since_torch("2.4", "what tells a checkpointed part of a forward from the others")
@pytest.mark.parametrize(("cls", "shape", "options"), LAYERS)
def test_one_normalization_and_the_same_gradients(cls, shape, options, passes):
    one, other = heads(cls, shape, options)
    data = levels(dtype=torch.float64)
    losses = [sum(out.square().sum() for out in head(data)) for head in (one, other)]
    assert passes == [1 + len(data)]
    for loss in losses:
        loss.backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.since_torch("2.4", "what tells a checkpointed part of a forward from the others")
def test_nothing_outlives_the_forward(passes):
    head = Head(WSConv2d(4, 4, 3))
    first = head(levels())[0]
    with torch.no_grad():
        head.layer.weight.copy_(torch.randn_like(head.layer.weight))
        assert not torch.allclose(head(levels())[0], first)
    assert passes == [2]


def test_gradients_switched_off_for_a_part(passes):
    head = WNConv2d(4, 4, 3)
    x = levels()[0]
    with once_a_forward():
        with torch.no_grad():
            silent = head(x)
        out = head(x)
        with torch.inference_mode():
            head(x)
    assert passes == [3] and not silent.requires_grad
    out.sum().backward()
    assert head.weight.grad.any()


@pytest.mark.parametrize(("cls", "shape", "options"), LAYERS)
def test_other_parameters_for_a_part(cls, shape, options):
    """As a functional call has them, or one in which they are frozen."""
    layer, x = cls(*shape, **options), levels()[0]
    others = {k: torch.randn_like(p) * 0.1 for k, p in layer.named_parameters()}
    expected = functional_call(layer, others, (x,))
    with once_a_forward():
        own = layer(x)
        for _ in range(2):
            given = {k: v.clone() for k, v in others.items()}
            torch.testing.assert_close(functional_call(layer, given, (x,)), expected)
        layer.requires_grad_(False)
        assert own.requires_grad and not layer(x).requires_grad


@pytest.mark.parametrize(("cls", "shape", "options"), LAYERS)
def test_function_transforms_of_a_part(cls, shape, options):
    """What they compute is theirs, also in a layer that nobody has trained."""
    layer, x = cls(*shape, **options).double(), levels(dtype=torch.float64)[0][:1]
    reset_gains(layer)  # in double precision
    with once_a_forward():
        by_transform = grad(lambda x: layer(x).square().sum())(x)
        out = layer(x)
        each = vmap(lambda x: layer(x[None]))(x)
    torch.testing.assert_close(each[0], out)
    out.square().sum().backward()
    assert layer.weight.grad is not None
    leaf = x.clone().requires_grad_()
    layer(leaf).square().sum().backward()
    torch.testing.assert_close(by_transform, leaf.grad)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_checkpointed_parts(use_reentrant, part):
    """A part that is run again in the backward pass, before or after others have used the layer."""
    one, other = heads(WNConv2d, (4, 4, 3), {})
    data = [x.requires_grad_() for x in levels(dtype=torch.float64)]

    def via(layer, x):
        if x is data[part]:
            return checkpoint(layer, x, use_reentrant=use_reentrant)
        return layer(x)

    sum(out.square().sum() for out in one(data, via)).backward()
    sum(out.square().sum() for out in other(data)).backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.since_torch("2.4", "what tells a checkpointed part of a forward from the others")
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpointed_head(use_reentrant, passes):
    one, other = heads(WSConv2d, (4, 4, 3), {})
    data = [x.requires_grad_() for x in levels(dtype=torch.float64)]
    outs = checkpoint(lambda *xs: tuple(one(xs)), *data, use_reentrant=use_reentrant)
    sum(out.square().sum() for out in outs).backward()
    assert passes == [2]  # once again in the backward pass
    sum(out.square().sum() for out in other(data)).backward()
    torch.testing.assert_close(one.layer.weight.grad, other.layer.weight.grad)


@pytest.mark.since_torch("2.4", "what tells a checkpointed part of a forward from the others")
def test_two_heads_share_a_layer_and_two_models_do_not(passes):
    layer = WSConv2d(4, 4, 3)
    with once_a_forward():
        Head(layer)(levels()), Head(layer)(levels()), Head(copy.deepcopy(layer))(levels())
    assert passes == [2]


def test_a_compiled_head_is_the_eager_one():
    torch._dynamo.reset()
    head = Head(WNConv2d(4, 4, 3))
    compiled = torch.compile(head, backend="aot_eager")
    for a, b in zip(compiled(levels()), head(levels()), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("cls", "shape", "options"), LAYERS)
def test_an_averaged_copy_is_never_out_of_date(cls, shape, options):
    """A frozen layer keeps nothing either: an average may be written in any way."""
    layer = cls(*shape, **options).requires_grad_(False)
    x = levels()[0]
    before = layer(x)
    for param in layer.parameters():
        param.data.mul_(1.5).add_(torch.rand_like(param))
    assert not torch.allclose(layer(x), before)
