"""The running statistics of BN tell plain from standardized weights, on really trained networks."""

import copy
import math

import mmcv
import pytest
import torch
from mmdet.models.backbones import MobileNetV2, ResNet
from torch import nn

from normfix_mm import normalize_layers
from normfix_mm.checkpoints.forms import NOT_PLAIN, PLAIN
from normfix_mm.convert.evidence import examine, rectified_mean


@pytest.fixture(scope="module")
def images(real_data):
    """Crops of 64 pixels, shape (32, 3, 64, 64), and whether there is much red in them."""
    files = sorted((real_data / "bccd/images/train").glob("*.jpg"))[:4]
    pixels = torch.stack(
        [torch.from_numpy(mmcv.imresize(mmcv.imread(f), (256, 128))) for f in files]
    )
    crops = pixels.float().unfold(1, 64, 64).unfold(2, 64, 64).flatten(0, 2)
    crops = (crops - crops.mean((0, 2, 3), True)) / crops.std((0, 2, 3), keepdim=True)
    redness = (crops[:, 2] - crops[:, 1]).mean((1, 2))
    return crops, (redness > redness.median()).long()


def trained(images, form, iterations=24):
    """A narrow ResNet-50 after some steps; WS networks need no more to be told."""
    torch.manual_seed(0)
    net = ResNet(50, base_channels=8, stem_channels=8, norm_eval=False, out_indices=(3,))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if form:
        normalize_layers(net, dict(form=form))
    classifier = nn.Linear(net.feat_dim, 2)
    optimizer = torch.optim.SGD(
        [*net.parameters(), *classifier.parameters()], lr=0.02, momentum=0.9, weight_decay=1e-4
    )
    net.train()
    for _ in range(iterations):
        logits = classifier(net(images[0])[0].mean((2, 3)))
        loss = nn.functional.cross_entropy(logits, images[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


@pytest.fixture(scope="module")
def networks(images):
    return {form: trained(images, form) for form in (None, "WS")}


@pytest.mark.slow
@pytest.mark.parametrize(("form", "told"), [(None, PLAIN), ("WS", "WS")])
def test_trained_networks(networks, form, told):
    evidence = examine(networks[form].state_dict())
    assert evidence.form == told, str(evidence)
    assert evidence.layers == 32
    # Short training leaves the means of the filters where chance put them.
    assert 0.8 < evidence.t < 1.6
    other = {PLAIN: "WS", "WS": PLAIN}[told]
    assert evidence.correlations[told] > evidence.correlations[other] + 0.2


def test_means_that_decayed_leave_the_slope(networks):
    """Long decay takes the filters' means away; then only the scale is left to tell."""
    for form, told in ((None, PLAIN), ("WS", "WS")):
        net = copy.deepcopy(networks[form])
        convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
        for conv in convs:
            conv.weight.data -= conv.weight.data.mean((1, 2, 3), keepdim=True)
            conv.weight.data *= 0.2  # a scale that no network trained like this has by chance
        with torch.no_grad():  # its own statistics, as after many more iterations
            for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.momentum = None
                norm.reset_running_stats()
                norm.bias.copy_(torch.linspace(-0.5, 0.5, len(norm.bias)))
            net(torch.randn(8, 3, 64, 64))
        evidence = examine(net.state_dict())
        assert evidence.t < 1e-3
        assert evidence.form == told, str(evidence)


def test_weights_of_another_network_are_not_plain(networks):
    state = networks[None].state_dict()
    torch.manual_seed(1)
    mixed = {
        name: value[torch.randperm(len(value))] if name.endswith("running_mean") else value
        for name, value in state.items()
    }
    assert examine(mixed).form == NOT_PLAIN


def test_nothing_to_tell_by():
    fresh = examine(ResNet(18, base_channels=8, stem_channels=8).state_dict())
    assert fresh.form is None and fresh.layers == 0
    assert "no running statistics" in str(fresh)
    bare = examine({"conv.weight": torch.randn(4, 3, 3, 3)})
    assert bare.form is None and 0.3 < bare.t < 2
    assert math.isnan(examine({"fc.weight": torch.randn(4, 3)}).t)


def test_mobilenets_are_told_too(images):
    torch.manual_seed(0)
    net = MobileNetV2(widen_factor=0.5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0, 0.5)
            module.momentum = None
    net.train()
    with torch.no_grad():
        net(images[0])
    assert examine(net.state_dict()).form == PLAIN


@pytest.mark.parametrize("ceiling", [math.inf, 6.0, 0.5])
def test_the_mean_of_a_rectified_gaussian(ceiling):
    mean = torch.tensor([-2.0, -0.3, 0.0, 0.7, 5.0], dtype=torch.float64)
    deviation = torch.tensor([1.0, -0.5, 2.0, 0.0, 3.0], dtype=torch.float64)  # sign is no matter
    z = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    values = (mean[:, None] + deviation.abs()[:, None] * z).clamp(0, ceiling)
    expected = torch.trapezoid(values * density, z, dim=1)
    torch.testing.assert_close(rectified_mean(mean, deviation, ceiling), expected)
