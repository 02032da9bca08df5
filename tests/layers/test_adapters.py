"""Adapters (LoRA) around a layer of ours, and adapters whose layers were to be normalized."""

import copy

import pytest
import torch
from torch import nn

from normfix_mm import EpsShift, NormFix, WNLinear, WSConv2d, fold, normalize_layers


class Adapter(nn.Module):
    """As peft's: holds the adapted layer, has its weight as its own, and can merge into it."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)

    @property
    def weight(self):
        return self.base_layer.weight

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))

    @torch.no_grad()
    def merged(self):
        base = copy.deepcopy(self.base_layer)
        base.weight += self.lora_B.weight @ self.lora_A.weight
        return base


class Aside(nn.Module):
    """An adapter that keeps its hands off the weight of the layer beside it."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.down, self.up = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.randn(4, 2))

    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T


class Extending(nn.Linear):
    """As loralib's: a Linear with a forward of its own."""

    def __init__(self, *args):
        super().__init__(*args)
        self.down, self.up = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.randn(4, 2))

    def forward(self, x):
        return super().forward(x) + x @ self.down.T @ self.up.T


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("exclude", [None, "base_layer"])
def test_the_layers_of_an_adapter_are_refused(exclude):
    """Normalized, each would be merged as what it is not; also the two small ones alone."""
    model = nn.Sequential(Adapter(nn.Linear(6, 4)), nn.Linear(4, 3))
    rule = dict(form="WN", kind="linear") | (dict(exclude=exclude) if exclude else {})
    with pytest.raises(ValueError, match=r"layer '0\.\w+', which is in a .*Adapter.* merge"):
        normalize_layers(model, rule)
    normalize_layers(model, dict(form="WN", kind="linear", exclude=r"^0\."))
    assert type(model[1]) is WNLinear


def test_the_convolution_of_an_adapter_is_not_left_plain_in_silence():
    adapter = nn.Module()
    adapter.base_layer = nn.Conv2d(3, 4, 3)
    kind = type("ConvAdapter", (nn.Module,), dict(weight=property(lambda s: s.base_layer.weight)))
    adapter.__class__ = kind
    with pytest.raises(ValueError, match="ConvAdapter"):
        normalize_layers(nn.Sequential(nn.Conv2d(3, 3, 1), adapter), dict(form="WS"))


def test_an_adapter_that_extends_a_layer_is_refused():
    with pytest.raises(ValueError, match="'0', which is a .*Extending"):
        normalize_layers(nn.Sequential(Extending(6, 4)), dict(form="WN", kind="linear"))


def test_an_adapter_beside_a_layer_keeps_its_function():
    model = nn.Sequential(Aside(nn.Linear(6, 4)))
    before = model(X)
    normalize_layers(model, dict(form="WN", kind="linear"))
    assert type(model[0].base) is WNLinear
    torch.testing.assert_close(model(X), before)


def adapted():
    """A trained layer of ours in an adapter, and the optimizer of the adapter alone."""
    torch.manual_seed(0)
    base = WNLinear(6, 4)
    base(X).square().sum().backward()
    torch.optim.SGD(base.parameters(), lr=0.01).step()
    model = nn.Sequential(Adapter(base), nn.ReLU(), WNLinear(4, 3))
    trained = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.SGD(trained, lr=0.1)


def test_around_a_layer_of_ours_only_the_adapter_trains():
    model, optimizer = adapted()
    base = {k: v.clone() for k, v in model[0].base_layer.state_dict().items()}
    fixing = NormFix(optimizer, model)
    assert fixing.names == ["2.weight"]
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    for name, value in model[0].base_layer.state_dict().items():
        assert torch.equal(value, base[name]), name
    other, _ = adapted()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(X), model(X))
    torch.testing.assert_close(
        model[0](X),
        nn.functional.linear(
            X, base["g"] * base["weight"] / base["weight"].norm(), model[0].base_layer.bias
        )
        + X @ model[0].lora_A.weight.T @ model[0].lora_B.weight.T,
    )


def test_folded_first_it_merges_right():
    model, _ = adapted()
    folded = fold(model)
    assert type(folded[0].base_layer) is nn.Linear
    torch.testing.assert_close(folded(X), model(X))
    torch.testing.assert_close(folded[0].merged()(X), model[0](X))


def test_the_shift_leaves_the_adapter_alone():
    conv = WSConv2d(3, 4, 3)
    model = nn.ModuleDict(dict(conv=conv, adapter=Adapter(WNLinear(6, 4))))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    assert [i.name for i in EpsShift(optimizer, model).infos] == ["conv.weight"]
