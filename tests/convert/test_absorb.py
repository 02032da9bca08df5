"""Absorbing standardization into BN, against closed forms in float64."""

import pytest
import torch
from mmdet.models.backbones import MobileNetV2, ResNet, ResNetV1d
from torch import nn

from normfix_mm import WSConv2d, normalize_layers
from normfix_mm.convert.absorb import absorb, norm_behind
from normfix_mm.errors import BadInput


def randomized(net, zero_mean=False, eps=1e-5):
    torch.manual_seed(0)
    for module in net.double().modules():  # first: in fp32 a mean of zero is not quite zero
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.1, 1.5)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.05)
            module.weight.data *= torch.rand(len(module.weight), 1, 1, 1) + 0.5
            if zero_mean:
                module.weight.data -= module.weight.data.mean((1, 2, 3), keepdim=True)
    return net


def twins(build, **options):
    """A plain network, its WS twin with absorbed weights, and the reported energies."""
    plain = randomized(build(), **options)
    target = normalize_layers(build().double(), dict(form="WS"))
    for module, other in zip(plain.modules(), target.modules(), strict=True):
        if isinstance(module, nn.BatchNorm2d):
            other.eps = module.eps
    names = [f"{n}.weight" for n, m in target.named_modules() if isinstance(m, WSConv2d)]
    state, energy = absorb(plain.state_dict(), target, names)
    target.load_state_dict(state, strict=True)
    return plain, target, energy


def outputs(net, x, training):
    for module in net.modules():
        module.training = training
    with torch.no_grad():
        return net(x)


def small_resnet():
    return ResNet(50, base_channels=8, stem_channels=8)


def conv_norm():
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6))


X = torch.rand(2, 3, 40, 48, dtype=torch.float64) + 0.5  # as after a ReLU: the mean is not zero


def test_zero_mean_filters_in_evaluation_mode():
    plain, target, energy = twins(small_resnet, zero_mean=True)
    for a, b in zip(outputs(plain, X, False), outputs(target, X, False), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-9)
    assert len(energy) == 53 and max(energy.values()) < 1e-12


def test_zero_mean_filters_in_training_mode():
    plain, target, _ = twins(small_resnet, zero_mean=True, eps=1e-13)
    for a, b in zip(outputs(plain, X, True), outputs(target, X, True), strict=True):
        assert a.std() > 0.01
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-6)


def test_what_bn_s_eps_leaves_in_training_mode():
    """gamma is corrected for the running variance; the batch's differs, and so does eps' share."""
    plain, target, _ = twins(conv_norm, zero_mean=True, eps=1e-2)
    conv, norm = plain
    with torch.no_grad():
        y = conv(X)
    divisor = conv.weight.flatten(1).std(1) + 1e-5
    var = y.var((0, 2, 3), unbiased=False)
    e, d2, running = norm.eps, divisor.square(), norm.running_var.clone()
    factor = ((running + e * d2) / (running + e) * (var + e) / (var + e * d2)).sqrt()
    before, after = outputs(plain, X, True), outputs(target, X, True)
    bias = norm.bias.view(1, -1, 1, 1)
    expected = bias + (before - bias) * factor.view(1, -1, 1, 1)
    torch.testing.assert_close(after, expected.detach(), rtol=1e-9, atol=1e-9)
    assert (factor - 1).abs().max() > 1e-3


def test_the_mean_is_not_absorbed():
    """The deviation is -gamma mu S / sqrt(var + eps), S the sum of the input under the filter."""
    plain, target, energy = twins(conv_norm)
    conv, norm = plain
    weight = conv.weight.detach()
    mean = weight.mean((1, 2, 3))
    ones = torch.ones(1, *weight.shape[1:], dtype=torch.float64)
    under = nn.functional.conv2d(X, ones, padding=1)
    slope = norm.weight * mean / (norm.running_var + norm.eps).sqrt()
    expected = outputs(plain, X, False) - slope.view(1, -1, 1, 1) * under
    torch.testing.assert_close(outputs(target, X, False), expected.detach())
    share = sum(27 * m**2 for m in mean) / sum(v**2 for v in weight.flatten())
    assert energy == {"0.weight": pytest.approx(float(share), rel=1e-12)}
    assert share > 0.01


def test_degenerate_filters_stay_finite():
    plain = conv_norm().double()
    plain[0].weight.data[0] = 0.3  # constant
    plain[0].weight.data[1] = 0.0
    plain[1].running_var[2] = 0.0
    target = normalize_layers(conv_norm().double(), dict(form="WS"))
    state, energy = absorb(plain.state_dict(), target, ["0.weight"])
    assert all(value.isfinite().all() for value in state.values())
    assert 0 < energy["0.weight"] < 1
    narrow = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state, _ = absorb(narrow.state_dict(), normalize_layers(narrow, dict(form="WS")), ["0.weight"])
    assert all(value.isfinite().all() for value in state.values())


def test_a_convolution_without_bn_is_refused():
    net = normalize_layers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), dict(form="WS"))
    with pytest.raises(BadInput, match="1 of 1 WS convolutions have no BN .*'0.weight'"):
        absorb(net.state_dict(), net, ["0.weight"])


def build_plain(kind):
    return {
        "resnet18": lambda: ResNet(18, base_channels=8, stem_channels=8),
        "resnet50": small_resnet,
        "deep stem": lambda: ResNetV1d(depth=50, base_channels=8, stem_channels=8),
        "mobilenet": lambda: MobileNetV2(widen_factor=0.25, out_indices=(7,)),
    }[kind]()


@pytest.mark.parametrize("kind", ["resnet18", "resnet50", "deep stem", "mobilenet"])
def test_which_norm_is_behind_a_convolution(kind):
    """By name, and really: the norm whose input is the very tensor that the convolution gave."""
    net = build_plain(kind)
    names = {module: name for name, module in net.named_modules()}
    made, seen = [], {}  # the tensors are kept, or the next would get an old one's identity

    def note(module, _, out):
        made.append((out, names[module]))

    def find(module, given):
        (origin,) = [name for out, name in made if out is given[0]]
        seen[origin] = names[module]

    for module in names:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
        elif isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(find)
    net.eval()
    net(torch.randn(1, 3, 32, 32))
    convs = [name for module, name in names.items() if isinstance(module, nn.Conv2d)]
    assert len(seen) == len(convs)
    assert {name: norm_behind(net, name) for name in convs} == seen


def test_norms_of_a_half_precision_file_do_not_overflow():
    plain = conv_norm()
    with torch.no_grad():
        plain[0].weight.mul_(0.01)
        plain[1].running_var.fill_(2.0)
    target = normalize_layers(conv_norm(), dict(form="WS"))
    half = {n: v.half() if v.is_floating_point() else v for n, v in plain.state_dict().items()}
    state, _ = absorb(half, target, ["0.weight"])
    exact, _ = absorb({n: v.float() for n, v in half.items()}, target, ["0.weight"])
    assert exact["1.running_var"].min() > torch.finfo(torch.float16).max
    for name in ("running_mean", "running_var", "weight"):
        torch.testing.assert_close(state[f"1.{name}"], exact[f"1.{name}"])
