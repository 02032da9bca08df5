"""Every backbone of both papers: its size, and what of it is normalized in each form."""

import pytest
import torch
from classification.networks import NETWORKS
from torch import nn

from normfix_mm import WNConv2d, WNPointwiseConv2d
from normfix_mm.layers.base import NormalizedLayer
from normfix_mm.optim.weights import weights_of

SMALL = ("shufflenetv1", "mobilenetv1", "efficientnet-b0")
FORMS = {
    "WS": dict(form="WS"),
    "WN": dict(form="WN", gain=False),
    "CWN": dict(form="CWN"),
}


def millions(network) -> float:
    count = sum(p.numel() for p in network.build().parameters())
    return (count + (network.features + 1) * network.classes) / 1e6


@pytest.mark.parametrize("name", NETWORKS)
def test_it_has_the_published_number_of_parameters(name):
    network = NETWORKS[name]
    digits = len(network.millions.partition(".")[2])
    # ResNeXt-29's authors cut 68.155 off at one digit.
    assert abs(millions(network) - float(network.millions)) < 0.56 * 10**-digits


@pytest.mark.parametrize(
    ("name", "form"),
    # One form selects as another does; the large networks are built once.
    [(name, form) for name in NETWORKS for form in FORMS if form == "WS" or name in SMALL],
)
def test_convolutions_are_normalized_but_for_those_that_see_too_little(name, form):
    network = NETWORKS[name]
    backbone = network.build(FORMS[form])
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    taken = [m for m in convolutions if isinstance(m, NormalizedLayer)]
    assert {m.form for m in taken} == {form}
    assert len(convolutions) == network.convolutions
    left = [m for m in convolutions if m not in taken]
    assert len(left) == network.plain
    thin = [m for m in left if m.groups > 1]
    assert len(left) - len(thin) == network.squeezes
    assert all(m.groups == m.in_channels or m.kernel_size == (1, 1) for m in thin)


@pytest.mark.parametrize("name", [n for n, network in NETWORKS.items() if network.squeezes])
def test_squeezes_are_wn_fc_with_one_gain_each(name):
    network = NETWORKS[name]
    backbone = network.build(dict(form="WN", kind="se"))
    gained = [m for m in backbone.modules() if isinstance(m, NormalizedLayer)]
    assert len(gained) == network.squeezes and {type(m) for m in gained} == {WNPointwiseConv2d}
    assert {len(m.g) for m in gained} == {1}
    gains = [w for w in weights_of(backbone) if w.kind == "gain"]
    assert len(gains) == network.squeezes


@pytest.mark.parametrize("name", ["efficientnet-b0", "se-x29"])
def test_weight_normalization_with_gain_keeps_the_function(name):
    network = NETWORKS[name]
    torch.manual_seed(0)
    stock, ours = network.build(), network.build(dict(form="WN"))
    stock.eval(), ours.eval()
    ours.load_state_dict(stock.state_dict(), strict=False)
    assert any(isinstance(m, WNConv2d) for m in ours.modules())
    x = torch.randn(1, 3, 33, 47)  # odd sizes: EfficientNet pads as TensorFlow does
    for a, b in zip(ours(x), stock(x)):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * b.abs().max().item())


def test_mobilenet_v1_and_the_tricks_have_strides_and_frozen_stages():
    network = NETWORKS["mobilenetv1"]
    config = dict(out_indices=(0, 1, 2, 3, 4), frozen_stages=2, norm_eval=True)
    backbone = type(network.build())(**config)
    backbone.train()
    sizes = [out.shape[-1] for out in backbone(torch.randn(1, 3, 64, 64))]
    assert sizes == [32, 16, 8, 4, 2]
    frozen = {n.split(".")[0] for n, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1", "layer2"}
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
    with pytest.raises(ValueError, match="out_indices"):
        type(backbone)(out_indices=(5,))


@pytest.mark.parametrize(
    ("name", "blocks"), [("mobilenetv2x1.12", 17), ("r50d-tricks", 16), ("efficientnet-b0", 16)]
)
def test_stochastic_depth_leaves_blocks_out_in_training_alone(name, blocks):
    network = NETWORKS[name]
    options = network.options | dict(drop_path_rate=0.5)
    torch.manual_seed(0)
    backbone = type(network.build())(**options)
    rates = [m.drop_prob for m in backbone.modules() if type(m).__name__ == "DropPath"]
    assert rates == sorted(rates) and rates[-1] == 0.5 and len(rates) == blocks - 1
    # One image, so that a block that is left out has no gradient at all.
    backbone.train()
    for m in backbone.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    backbone(torch.randn(1, 3, 32, 32))[-1].sum().backward()
    silent = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent
    backbone.eval()
    backbone.zero_grad()
    backbone(torch.randn(1, 3, 32, 32))[-1].sum().backward()
    assert not [n for n, p in backbone.named_parameters() if p.grad is None]
