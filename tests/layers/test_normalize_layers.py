"""The one mechanism by which a built model gets normalized layers."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from normfix_mm import FixNormLinear, WNConv2d, WNPointwiseConv2d, WSConv2d, normalize_layers


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.thin = nn.Conv2d(8, 8, 3, groups=4)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.head = nn.Conv2d(8, 4, 1)
        self.fc = nn.Linear(4, 2)
        self.alias = [self.stem]

    def forward(self, x):
        x = self.grouped(self.thin(self.depthwise(self.stem(x))))
        return self.fc(self.head(x).mean((2, 3)))


def test_swap_is_in_place_and_keeps_what_hangs_on_the_layer():
    net = Net()
    stem, parameters = net.stem, dict(net.named_parameters())
    seen = []
    stem.register_forward_hook(lambda *_: seen.append(1))
    assert normalize_layers(net, {"form": "WS", "layers": "^stem$"}) is net
    assert net.stem is stem is net.alias[0] and type(stem) is WSConv2d
    assert dict(net.named_parameters()).keys() == parameters.keys()
    assert all(p is parameters[name] for name, p in net.named_parameters())
    net(torch.randn(1, 3, 16, 16))
    assert seen


def test_depthwise_and_thin_layers_stay_plain_unless_asked_for():
    net = normalize_layers(Net(), {"form": "WS"})
    swapped = {name for name, m in net.named_modules() if isinstance(m, WSConv2d)}
    assert swapped == {"stem", "grouped", "head"}
    net = normalize_layers(Net(), {"form": "WS", "depthwise": True})
    assert isinstance(net.depthwise, WSConv2d) and isinstance(net.thin, WSConv2d)


@pytest.mark.parametrize(
    ("shape", "kernel", "groups", "taken"),
    [
        ((128, 128), 3, 32, True),  # ResNeXt-32x4d's first, 36 weights a filter
        ((384, 96), 1, 8, False),  # ShuffleNetV1 x1, g = 8: 48
        ((1536, 384), 1, 8, False),  # and 192
        ((64, 64), 3, 32, False),  # two channels a group, 18
        ((64, 64), 7, 64, False),  # depthwise, 49
    ],
)
def test_grouped_filters_are_taken_where_they_see_enough(shape, kernel, groups, taken):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(*shape, kernel, groups=groups))
    normalize_layers(net, {"form": "WS"})
    assert isinstance(net[1], WSConv2d) == taken


class SELayer(nn.Module):
    """As OpenMMLab's: two fully connected layers, each a convolution in a module of its own."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(8, 2, 1), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(2, 8, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))


@pytest.mark.parametrize(
    ("rule", "conv", "squeeze"),
    [
        (dict(form="WS"), "WSConv2d", "Conv2d"),
        (dict(form="CWN"), "CWNConv2d", "Conv2d"),
        (dict(form="WN", gain=False), "WNConv2d", "Conv2d"),
        (dict(form="WN", gain=True), "WNConv2d", "WNPointwiseConv2d"),
        (dict(form="WN", kind="se"), "Conv2d", "WNPointwiseConv2d"),
    ],
)
def test_squeeze_layers_have_one_gain_or_none(rule, conv, squeeze):
    net, x = nn.Sequential(nn.Conv2d(3, 8, 1), SELayer()), torch.randn(2, 3, 5, 5)
    before = net(x)
    normalize_layers(net, rule)
    kinds = {type(m[0]).__name__ for m in (net[1].conv1, net[1].conv2)}
    assert type(net[0]).__name__ == conv and kinds == {squeeze}
    if squeeze == "WNPointwiseConv2d":
        assert [len(m[0].g) for m in (net[1].conv1, net[1].conv2)] == [1, 1]
        torch.testing.assert_close(net(x), before)


def test_a_layer_in_a_squeeze_is_one_even_alone():
    net = normalize_layers(SELayer(), dict(form="WN"))
    assert type(net.conv1[0]) is WNPointwiseConv2d
    with pytest.raises(ValueError, match="matches no plain layer"):
        normalize_layers(Net(), dict(form="WN", kind="se"))


class Deformable(nn.Module):
    """As mmcv's: a weight of its own, and a convolution that starts at zero beside it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.conv_offset = nn.Conv2d(4, 18, 3)
        nn.init.zeros_(self.conv_offset.weight)


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        (dict(form="WS"), False),
        (dict(form="CWN"), False),
        (dict(form="WN", gain=False), False),
        (dict(form="WN", gain=True), True),
        (dict(form="WN"), True),
    ],
)
def test_offsets_are_not_normalized_away(rule, taken):
    net = normalize_layers(nn.Sequential(nn.Conv2d(3, 4, 3), Deformable()), rule)
    assert type(net[0]) is not nn.Conv2d and type(net[1]) is Deformable
    assert (type(net[1].conv_offset) is WNConv2d) == taken
    if taken:  # and are still zero, but can learn
        net[1].conv_offset(torch.randn(1, 4, 5, 5)).square().sum().backward()
        assert not net[1].conv_offset.g.any() and net[1].conv_offset.g.grad.any()


def test_gain_and_fixnorm_keep_the_function():
    net, x = Net(), torch.randn(2, 3, 16, 16)
    before = net(x)
    rules = [
        {"form": "WN", "gain": True},
        {"form": "FixNorm", "kind": "linear", "alpha": 100.0},
    ]
    normalize_layers(net, rules)
    assert type(net.fc) is FixNormLinear and type(net.head) is WNConv2d
    torch.testing.assert_close(net(x), before, rtol=1e-5, atol=1e-6)


@pytest.mark.needs("mmcv")
def test_mmcv_wrappers_count_as_plain():
    from mmcv.cnn.bricks.wrappers import Conv2d

    net = nn.Sequential(Conv2d(3, 8, 3))
    normalize_layers(net, {"form": "WS"})
    assert type(net[0]) is WSConv2d


def test_one_layer_alone():
    layer = normalize_layers(nn.Conv2d(3, 8, 3), {"form": "WN"})
    assert type(layer) is WNConv2d


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"form": "WS", "layers": "backbone"}, "matches no plain layer.*stem, depthwise"),
        ([{"form": "WS", "layers": "stem"}, {"form": "WN", "layers": "st"}], "Two rules.*'stem'"),
        ({"form": "WZ"}, "'WZ'"),
        ({"form": "WS", "kind": "linear"}, "'WS'.*'linear'"),
        ({"form": "WS", "alpha": 1.0}, "alpha"),
        ({"form": "FixNorm", "layers": "head", "alpha": -1}, "alpha"),
        ({"form": "WS", "exclude": "backbone.stem"}, "excludes nothing.*stem, depthwise"),
        ({"form": "WS", "depthwise": "false"}, "depthwise: 'false'"),
        ({"form": "WS", "layers": ["stem"]}, "no regular expression.*join several names"),
        ({"form": "WS", "exclude": "(stem"}, "exclude='.stem' .*no regular expression"),
        ("WS", "'WS' is no dictionary"),
        (["WS"], "'WS' is no dictionary"),
        (None, "None is no dictionary"),
        (False, "False is no dictionary"),
    ],
)
def test_bad_rules_change_nothing(rules, message):
    net = Net()
    with pytest.raises(ValueError, match=message):
        normalize_layers(net, rules)
    assert all(type(m) in (Net, nn.Conv2d, nn.Linear) for m in net.modules())


def test_a_second_swap_finds_nothing_plain():
    net = normalize_layers(Net(), {"form": "WS", "layers": "stem"})
    with pytest.raises(ValueError, match="matches no plain layer"):
        normalize_layers(net, {"form": "WN", "layers": "stem"})


class Wrapper(nn.Conv2d):
    """As a detection library's: runs its norm and its activation itself."""

    def __init__(self, *args, norm=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm = norm

    def forward(self, x):
        return self.norm(super().forward(x)).relu()


def _wrapped():
    return Wrapper(3, 8, 3, norm=nn.BatchNorm2d(8))


def _named_alike():
    return type("Conv2d", (Wrapper,), {})(3, 8, 3, norm=nn.BatchNorm2d(8))


def _patched():
    layer = nn.Conv2d(3, 8, 3)
    layer.forward = lambda x: nn.Conv2d.forward(layer, x).relu()
    return layer


def _pruned():
    return prune.l1_unstructured(nn.Conv2d(3, 8, 3), "weight", 0.5)


def _parametrized():
    return torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))


def _spectral():
    return torch.nn.utils.spectral_norm(nn.Conv2d(3, 8, 3))


def _lazy():
    return nn.LazyConv2d(8, 3)


def _complex():
    return nn.Conv2d(3, 8, 3, dtype=torch.complex64)


def _with_a_g():
    layer = nn.Conv2d(3, 8, 3)
    layer.register_buffer("g", torch.ones(3))
    return layer


def _quantization_aware():
    from torch.ao.nn.qat import Conv2d
    from torch.ao.quantization import get_default_qat_qconfig

    return Conv2d(3, 8, 3, qconfig=get_default_qat_qconfig())


@pytest.mark.parametrize(
    "make",
    [
        _wrapped,
        _named_alike,
        _patched,
        _pruned,
        _parametrized,
        _spectral,
        _lazy,
        _complex,
        _with_a_g,
        _quantization_aware,
    ],
)
@pytest.mark.parametrize("form", ["WS", "WN", "CWN", "FixNorm"])
def test_what_may_compute_something_else_is_refused_by_name(make, form):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), make())
    with pytest.raises(ValueError, match=r"layer '1', which .*`exclude`"):
        normalize_layers(net, dict(form=form))
    assert type(net[0]) is nn.Conv2d  # nothing is changed
    normalize_layers(net, dict(form=form, exclude="^1"))
    assert type(net[0]) is not nn.Conv2d


def test_the_output_projection_of_attention_is_refused():
    """torch uses its weight directly, past its forward."""
    net = nn.ModuleDict(dict(attention=nn.MultiheadAttention(4, 2), fc=nn.Linear(4, 4)))
    with pytest.raises(ValueError, match="attention.out_proj"):
        normalize_layers(net, dict(form="WN", kind="linear"))


@pytest.mark.needs("mmcv")
def test_mmcv_s_wrapper_is_plain():
    from mmcv.cnn.bricks.wrappers import Conv2d

    layer = Conv2d(3, 8, 3)
    x = torch.randn(2, 3, 5, 5)
    before = layer(x)
    normalize_layers(layer, dict(form="WN"))
    torch.testing.assert_close(layer(x), before)


def test_a_weight_that_another_layer_uses_as_it_stands_is_refused():
    net = nn.ModuleDict(dict(a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 3, 1), c=nn.Conv2d(3, 3, 1)))
    net["b"].weight = net["a"].weight
    for rule in (dict(form="WS", layers="^[ac]$"), dict(form="WS", exclude="a")):
        with pytest.raises(ValueError, match="shares its weight"):
            normalize_layers(net, rule)
    normalize_layers(net, dict(form="WS"))
    assert net["b"].weight is net["a"].weight


def test_a_tied_embedding_is_refused():
    net = nn.ModuleDict(dict(words=nn.Embedding(7, 4), out=nn.Linear(4, 7)))
    net["out"].weight = net["words"].weight
    with pytest.raises(ValueError, match="'out' shares its weight with 'words'"):
        normalize_layers(net, dict(form="WN", kind="linear"))


@pytest.mark.needs("mmcv")
@pytest.mark.parametrize("rule", [dict(form="WS"), dict(form="CWN"), dict(form="WN", gain=False)])
def test_a_convolution_that_starts_at_zero_stays_plain_without_a_gain(rule):
    """The last one of a context block, which has no norm behind it."""
    from mmcv.cnn.bricks import ContextBlock

    net = nn.Sequential(nn.Conv2d(16, 16, 3), ContextBlock(16, ratio=1 / 4))
    x = torch.randn(2, 16, 6, 6)
    added = net[1](x) - x
    normalize_layers(net, rule)
    assert not isinstance(net[1].channel_add_conv[-1], type(net[0]))
    torch.testing.assert_close(net[1](x) - x, added)


def test_an_invalid_value_in_a_later_rule_changes_nothing():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    state = torch.get_rng_state()
    for bad in (dict(form="FixNorm", alpha="1"), dict(form="WN", gain=1), dict(form="WS", eps=0)):
        with pytest.raises(ValueError, match="Invalid"):
            normalize_layers(net, [dict(form="WS", layers="0"), bad | dict(layers="1")])
        assert {type(layer) for layer in net} == {nn.Conv2d}
    assert torch.equal(torch.get_rng_state(), state)


def test_gains_are_not_added_to_a_model_in_distributed_data_parallel(tmp_path):
    """Whose reducer knows the parameters of the time when it was made."""
    from torch import distributed as dist

    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        net = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Conv2d(3, 3, 1)))
        with pytest.raises(ValueError, match="wrap it afterwards"):
            normalize_layers(net, dict(form="WN"))
        assert type(net.module[0]) is nn.Conv2d
        normalize_layers(net, dict(form="WS"))  # has none
    finally:
        dist.destroy_process_group()


@pytest.mark.needs("mmcv")
def test_a_model_that_is_normalized_already_is_told_so():
    from mmcv.cnn import ConvWS2d

    with pytest.raises(ValueError, match="candidates: none; 1 such layers are normalized already"):
        normalize_layers(nn.Sequential(ConvWS2d(3, 4, 1)), dict(form="WN"))


def test_a_weight_that_a_module_has_as_a_parameter_of_its_own_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    net.kernel = net[1].weight
    with pytest.raises(ValueError, match="'1' shares its weight with 'kernel'"):
        normalize_layers(net, dict(form="WN"))
    normalize_layers(net, dict(form="WN", exclude="1"))
