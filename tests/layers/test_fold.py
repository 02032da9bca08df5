"""Folding: the same outputs from plain layers, whatever was normalized."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from normfix_mm import (
    CWNConv2d,
    FixNormConv2d,
    FixNormLinear,
    WNConv2d,
    WNConvTranspose2d,
    WNLinear,
    WSConv2d,
    fold,
    normalize_layers,
)

CONVS = {
    "ws": WSConv2d,
    "ws-eps": lambda *a, **k: WSConv2d(*a, eps=0.1, **k),
    "wn": WNConv2d,
    "wn-no-gain": lambda *a, **k: WNConv2d(*a, gain=False, **k),
    "cwn": CWNConv2d,
    "fixnorm": FixNormConv2d,
    "fixnorm-capped": lambda *a, **k: FixNormConv2d(*a, alpha=0.01, **k),
}
SHAPES = [
    dict(),
    dict(bias=False, stride=2),
    dict(groups=4, padding=1),
    dict(dilation=2, padding=(1, 2), padding_mode="reflect"),
    dict(padding="same", padding_mode="circular", groups=2),
]


def trained(layer):
    """Gains that are no longer ||W||, as after training."""
    if getattr(layer, "g", None) is not None:
        layer.normalized_weight()
        with torch.no_grad():
            layer.g.mul_(1.3).add_(0.1)
    return layer


def assert_stock(module):
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert type(layer) in (nn.Conv2d, nn.Linear, nn.LazyLinear), type(layer)
    assert not [name for name in module.state_dict() if name.endswith(("g", "gamma", "beta"))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("form", CONVS)
def test_convolutions(form, shape):
    torch.manual_seed(0)
    layer = trained(CONVS[form](8, 12, 3, **shape))
    x = torch.randn(2, 8, 9, 11)
    expected, before = layer(x), copy.deepcopy(layer.state_dict())
    plain = fold(layer)
    assert type(plain) is nn.Conv2d
    torch.testing.assert_close(plain(x), expected, rtol=1e-6, atol=1e-6)

    # The stock layer of the same arguments takes it strictly and agrees.
    stock = nn.Conv2d(8, 12, 3, **shape)
    stock.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(stock(x), plain(x))
    assert repr(stock) == repr(plain)
    assert stock.__dict__.keys() == plain.__dict__.keys()

    # The original is as it was, and shares nothing.
    assert type(layer) is not nn.Conv2d
    with torch.no_grad():
        for p in plain.parameters():
            p.zero_()
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("layer_type", [WNLinear, FixNormLinear])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers(layer_type, bias):
    layer = trained(layer_type(7, 5, bias=bias))
    plain, x = fold(layer), torch.randn(3, 7)
    assert type(plain) is nn.Linear
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-6, atol=1e-6)
    nn.Linear(7, 5, bias=bias).load_state_dict(plain.state_dict(), strict=True)


def test_transposed_convolutions():
    """One gain for the layer: the folded weight is g W / |W|, whatever the axis of the filters."""
    torch.manual_seed(0)
    options = dict(stride=2, output_padding=1, padding=1, groups=2, bias=False)
    layer = trained(WNConvTranspose2d(6, 4, 3, **options))
    plain, x = fold(nn.Sequential(layer))[0], torch.randn(2, 6, 5, 7)
    assert type(plain) is nn.ConvTranspose2d
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-6, atol=1e-6)
    by_hand = layer.weight.detach() * (layer.g.item() / layer.weight.detach().pow(2).sum().sqrt())
    torch.testing.assert_close(plain.weight.detach(), by_hand)
    stock = nn.ConvTranspose2d(6, 4, 3, **options)
    stock.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(stock(x), plain(x))
    assert stock.__dict__.keys() == plain.__dict__.keys()


def test_dtype_memory_format_modes_and_hooks_stay():
    calls = []
    layer = WNConv2d(4, 6, 3).double().to(memory_format=torch.channels_last).eval()
    layer.weight.requires_grad_(False)
    layer.register_forward_hook(lambda *_: calls.append(1))
    plain = fold(nn.Sequential(layer, nn.BatchNorm2d(6)))
    assert plain[0].weight.dtype == torch.float64
    assert plain[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not plain[0].training
    assert plain[1].training
    assert not plain[0].weight.requires_grad
    assert plain[0].bias.requires_grad
    plain[0](torch.randn(2, 4, 5, 5, dtype=torch.float64))
    assert calls == [1]
    assert fold(layer.half()).weight.dtype == torch.float16


def test_zero_filters_stay_finite():
    for form in CONVS.values():
        layer = form(3, 4, 1)
        layer.weight.data.zero_()
        layer.eval()
        x = torch.randn(1, 3, 4, 4)
        torch.testing.assert_close(fold(layer)(x), layer(x))


def test_a_shared_layer_stays_one_layer():
    layer = WSConv2d(4, 4, 3, padding=1)
    plain = fold(nn.Sequential(layer, nn.ReLU(), layer))
    assert plain[0] is plain[2]
    assert len(list(plain.parameters())) == 2
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(plain(x), layer(layer(x).relu()))


def test_shared_weights():
    """One weight, three uses: normalized alike they go on sharing, otherwise they part."""
    model = nn.ModuleList([WSConv2d(4, 4, 3), WSConv2d(4, 4, 3), CWNConv2d(4, 4, 3)])
    model.append(nn.Conv2d(4, 4, 3))
    for layer in model[1:]:
        layer.weight = model[0].weight
    plain, x = fold(model), torch.randn(1, 4, 5, 5)
    for folded, layer in zip(plain, model, strict=True):
        torch.testing.assert_close(folded(x), layer(x))
    assert plain[0].weight is plain[1].weight
    assert plain[2].weight is not plain[0].weight
    assert torch.equal(plain[3].weight, model[0].weight)


def test_nothing_to_fold_gives_a_copy():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(2, 2))
    plain = fold(model)
    assert plain is not model
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True)
    )


def test_unknown_layer_type_is_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))

        def normalized_weight(self):
            return self.weight / 2

    with pytest.raises(TypeError, match=r"not Odd; give the layer"):
        fold(nn.Sequential(Odd()))


@pytest.mark.needs("mmcv")
@pytest.mark.parametrize("name", ["ConvWS2d", "ConvAWS2d"])
@pytest.mark.parametrize("groups", [1, 2])
def test_mmcv_layers(name, groups):
    import mmcv.cnn.bricks.conv_ws as conv_ws

    torch.manual_seed(0)
    layer = getattr(conv_ws, name)(4, 6, 3, groups=groups, dilation=2, padding=1)
    if name == "ConvAWS2d":
        layer.weight_gamma.normal_()
        layer.weight_beta.normal_()
    else:
        layer.eps = 0.05
    layer.weight.data.mul_(0.1)
    plain, x = fold(nn.Sequential(layer)), torch.randn(2, 4, 9, 9)
    assert_stock(plain)
    torch.testing.assert_close(plain[0](x), layer(x), rtol=1e-5, atol=1e-5)
    stock = nn.Conv2d(4, 6, 3, groups=groups, dilation=2, padding=1)
    stock.load_state_dict(plain[0].state_dict(), strict=True)
    assert stock.__dict__.keys() == plain[0].__dict__.keys()


@pytest.mark.needs("mmcv")
@pytest.mark.parametrize("conv", ["WSConv2d", "WNConv2d", "ConvWS", "ConvAWS"])
def test_a_bn_fuses_right_only_after_folding(conv):
    from mmcv.cnn import ConvModule, fuse_conv_bn

    torch.manual_seed(0)
    module = ConvModule(4, 8, 3, conv_cfg=dict(type=conv), norm_cfg=dict(type="BN")).eval()
    trained(module.conv)
    module.bn.running_mean.normal_()
    module.bn.running_var.uniform_(0.5, 2)
    module.bn.weight.data.normal_()
    x = torch.randn(2, 4, 8, 8)
    expected = module(x)
    fused = fuse_conv_bn(fold(module))
    torch.testing.assert_close(fused(x), expected, rtol=1e-5, atol=1e-5)
    wrong = fuse_conv_bn(copy.deepcopy(module))(x)
    assert (wrong - expected).abs().max() > 0.01  # why folding comes first


@pytest.mark.needs("mmdet")
def test_retinanet_and_its_parts_load_into_the_stock_model():
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.hub import get_config

    register_all_modules()
    torch.manual_seed(0)
    cfg = get_config("mmdet::retinanet/retinanet_r18_fpn_1x_coco.py").model
    cfg.backbone.update(init_cfg=None, base_channels=16)
    cfg.neck.update(in_channels=[16, 32, 64, 128], out_channels=32)
    cfg.bbox_head.update(in_channels=32, feat_channels=32)
    stock = MODELS.build(cfg).eval()
    model = copy.deepcopy(stock)
    rules = [
        dict(form="WS", layers="backbone"),
        dict(form="WN", layers="neck|cls_convs|reg_convs|retina_reg"),
        dict(form="FixNorm", layers="retina_cls", alpha=0.5),
    ]
    normalize_layers(model, rules)
    for layer in model.modules():
        trained(layer)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        plain = fold(model)
        stock.load_state_dict(plain.state_dict(), strict=True)
        for result in (plain(x), stock(x)):
            for got, want in zip(result, expected, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        features = model.extract_feat(x)
        for got, want in zip(
            fold(model.bbox_head)(features), model.bbox_head(features), strict=True
        ):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert_stock(plain)
    assert isinstance(model.bbox_head.retina_cls, FixNormConv2d)


def test_nothing_of_ours_is_left_on_a_folded_layer():
    layer = fold(WNConv2d(3, 4, 2))
    assert type(layer) is nn.Conv2d and not layer._forward_pre_hooks
    assert vars(layer).keys() == vars(nn.Conv2d(3, 4, 2)).keys()


def _own(layer_class, **body):
    return type("Own", (layer_class,), body)


@pytest.mark.parametrize("base", [WSConv2d, WNConv2d, CWNConv2d])
@pytest.mark.parametrize("method", ["forward", "_conv_forward", "__call__"])
def test_a_layer_that_does_more_is_refused_by_name(base, method):
    def more(layer, *args):
        return getattr(base, method)(layer, *args).relu()

    model = nn.Sequential(nn.Conv2d(3, 3, 1), _own(base, **{method: more})(3, 4, 2))
    with pytest.raises(TypeError, match=f"layer '1', a Own, has a {method} of its own"):
        fold(model)
    fold(model[0])


def test_a_subclass_that_only_has_another_name_folds():
    layer = _own(WSConv2d)(3, 4, 2)
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(fold(layer)(x), layer(x))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: prune.l1_unstructured(m, "weight", 0.5),
        lambda m: torch.nn.utils.parametrizations.orthogonal(m, "weight"),
    ],
)
def test_a_computed_weight_is_refused(spoil):
    with pytest.raises(TypeError, match="weight that is computed"):
        fold(nn.Sequential(spoil(WSConv2d(3, 4, 2))))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: prune.random_unstructured(m, "g", 0.5),
        lambda m: nn.utils.parametrize.register_parametrization(m, "g", nn.Softplus()),
    ],
)
def test_a_computed_gain_is_refused(spoil):
    layer = WNConv2d(3, 4, 2)
    spoil(layer)
    with pytest.raises(TypeError, match="'0', a .*WNConv2d, has a gain that is computed"):
        fold(nn.Sequential(layer))


def test_a_model_that_torch_cannot_copy_is_told_in_a_sentence():
    model = nn.Sequential(WSConv2d(3, 4, 2), prune.l1_unstructured(nn.Conv2d(4, 4, 1), "weight", 1))
    model(torch.randn(1, 3, 4, 4))
    with pytest.raises(TypeError, match="the Sequential cannot be copied.*remove pruning"):
        fold(model)


def test_a_replaced_forward_is_refused():
    """It would go on calling the layer that it was made for."""
    layer = WSConv2d(3, 4, 3)
    forward = layer.forward
    layer.forward = lambda x: forward(x).relu()
    with pytest.raises(TypeError, match="'0', a WSConv2d, has a forward of its own"):
        fold(nn.Sequential(layer))


def test_a_stranger_of_mmcv_s_name_is_left_as_it_is():
    class ConvWS2d(nn.Conv2d):
        """As other projects have them: biased, eps inside the root."""

        def forward(self, x):
            rows = self.weight.flatten(1)
            rows = (rows - rows.mean(1, True)) / (rows.var(1, False).unsqueeze(1) + 0.1).sqrt()
            return self._conv_forward(x, rows.view_as(self.weight), self.bias)

    net, x = nn.Sequential(ConvWS2d(3, 4, 3)), torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(fold(net)(x), net(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="which is a .*ConvWS2d"):
        normalize_layers(net, dict(form="WS"))
