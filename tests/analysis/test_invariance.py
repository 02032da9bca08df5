"""Which weights are scale-invariant: small networks where the answer is known."""

import random

import numpy as np
import pytest
import torch
from analysis.model_state import assert_same_state, full_state
from torch import nn

from normfix_mm import FixNormConv2d, WNConv2d, WNLinear, find_scale_variant, normalize_layers
from normfix_mm.analysis.invariance import measure_scale_variance
from normfix_mm.analysis.probe import MOST_SCALED_ALONE
from normfix_mm.layers.gain import settle_gains
from normfix_mm.optim.weights import norm_fix_weights

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(5))


def conv_bn(n_in, n_out, **bn_options):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3), nn.BatchNorm2d(n_out, **bn_options), nn.ReLU())


def network(*middle):
    torch.manual_seed(0)
    return nn.Sequential(conv_bn(3, 8), conv_bn(8, 8), *middle, nn.Flatten(), nn.LazyLinear(5))


def losses(model):
    """Two scalar losses, as a detector returns them: nested, one not differentiable."""
    out = model(IMAGES)
    cross_entropy = nn.functional.cross_entropy(out, torch.arange(4))
    return {"loss_a": cross_entropy, "b": [(out * out.new_tensor(0.3)).sin().mean()], "acc": 0.5}


def built(*middle):
    model = network(*middle)
    model(IMAGES)  # gives the lazy layer its shape
    return model


def test_convolutions_before_a_norm_pass_in_three_forwards():
    report = measure_scale_variance(built(), losses)
    assert report.variant == {}
    assert report.unreached == []
    assert report.forwards == 3


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(4, 8), nn.InstanceNorm2d(8), nn.LayerNorm([8, 6, 6])]
)
def test_other_norms_pass(norm):
    assert find_scale_variant(built(nn.Conv2d(8, 8, 3, bias=False), norm), losses) == {}


def test_a_convolution_without_norm_is_named_with_its_real_change():
    model = built(nn.Conv2d(8, 6, 3))
    found = find_scale_variant(model, losses)
    assert list(found) == ["2.weight"]

    # By hand: double it and look.
    before = losses(model.train())
    model[2].weight.data *= 2
    after = losses(model)
    change = max(
        abs(after["loss_a"] / before["loss_a"] - 1).item(),
        abs(after["b"][0] / before["b"][0] - 1).item(),
    )
    assert found["2.weight"] == pytest.approx(change, rel=1e-4)


def test_norm_in_evaluation_mode_is_no_norm():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)  # what MMDetection's norm_eval does

    model = built(nn.Conv2d(8, 6, 3), Frozen(6))
    assert list(find_scale_variant(model, losses)) == ["2.weight"]
    # A model that happens to be in evaluation mode is judged as it trains.
    assert find_scale_variant(built().eval(), losses) == {}


@pytest.mark.parametrize(
    "options",
    [
        dict(form="WN", gain=True),
        dict(form="WN", gain=False),
        dict(form="FixNorm"),
        dict(form="CWN"),
        dict(form="WS"),
    ],
)
def test_normalizing_the_layer_is_the_remedy(options):
    model = built(nn.Conv2d(8, 6, 3))
    normalize_layers(model, dict(layers="^2$", **options))
    assert find_scale_variant(model, losses) == {}
    assert "2.weight" in {w.name for w in norm_fix_weights(model)}


def test_a_model_checked_before_training_starts_its_gains_by_itself():
    """Nobody else takes care of it, and its weights were initialized after it was made."""
    model = nn.Sequential(WNConv2d(3, 4, 3), nn.BatchNorm2d(4), FixNormConv2d(4, 5, 1, alpha=9.0))
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=0.5)
    find_scale_variant(model, lambda m: m(IMAGES).square())
    model(IMAGES).sum().backward()
    for layer in (model[0], model[2]):
        norm = layer.weight.detach().reshape(len(layer.g), -1).norm(dim=1)
        torch.testing.assert_close(layer.g.detach(), norm)


def test_gains_still_follow_afterwards():
    model = nn.Sequential(WNConv2d(3, 8, 3), FixNormConv2d(8, 6, 3), nn.Flatten(), WNLinear(384, 5))
    assert find_scale_variant(model, losses) == {}
    nn.init.normal_(model[0].weight, std=3.0)
    settle_gains(model)
    lengths = model[0].weight.flatten(1).norm(dim=1)
    torch.testing.assert_close(model[0].g, lengths)


def test_plain_linear_layer_on_request():
    assert list(find_scale_variant(built(), losses, ["0.0.weight", "3.weight"])) == ["3.weight"]


@pytest.mark.parametrize("zeroed", ["2.weight", "4.weight"])
def test_zero_weights_do_not_hide(zeroed):
    """A zero weight looks invariant, and so does every weight in front of a zero one."""
    model = built(nn.Conv2d(8, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 1))
    model.get_parameter(zeroed).data.zero_()
    found = find_scale_variant(model, losses)
    assert set(found) == {"2.weight", "4.weight"}
    assert not model.get_parameter(zeroed).any()


def test_zero_norm_weight_does_not_hide():
    """zero_init_residual: the branch contributes nothing yet, but will."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.plain, self.conv = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
            self.norm = nn.BatchNorm2d(8)
            self.norm.weight.data.zero_()

        def forward(self, x):
            return x + self.norm(self.conv((3 * self.plain(x)).sin()))

    model = built(Residual())
    assert list(find_scale_variant(model, losses)) == ["2.plain.weight"]
    assert not model[2].norm.weight.any()


def test_layers_that_cover_for_each_other():
    """Equal factors cancel where two layers share one stream; each alone is variant."""

    class Stream(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(3, 8, 3, bias=False)
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x):
            return self.norm(self.one(x).relu() + self.two(x).abs())

    torch.manual_seed(0)
    model = nn.Sequential(Stream(), nn.Flatten(), nn.Linear(800, 5))
    assert set(find_scale_variant(model, losses)) == {"0.one.weight", "0.two.weight"}


class Stationary(nn.Module):
    """Invariant layers, and `odd` ones whose lengths matter although the slope along them is 0.

    Only scaling shows it. The output depends on log(|odd|) alone, or, of two, on the difference.
    """

    def __init__(self, odd):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, 3) for _ in range(9))
        self.odd = nn.ModuleList(nn.Conv2d(3, 8, 3) for _ in range(odd))
        self.convs_too = nn.ModuleList(nn.Conv2d(3, 8, 3) for _ in range(4))
        self.norm = nn.BatchNorm2d(8)
        self.start = [conv.weight.detach().norm().item() for conv in self.odd]

    def forward(self, x):
        out = sum(self.norm(conv(x)) for conv in [*self.convs, *self.convs_too])
        logs = [(o.weight.norm() / s).log() for o, s in zip(self.odd, self.start, strict=True)]
        share = (9 * (logs[0] - sum(logs[1:]))).square()
        for conv in self.odd:
            direction = conv.weight / conv.weight.norm()
            out = out + (1 + share) * nn.functional.conv2d(x, 20 * direction)
        return out


@pytest.mark.parametrize("odd", [1, 2])
def test_bisection_names_what_the_screen_missed(odd):
    torch.manual_seed(1)
    model = nn.Sequential(Stationary(odd), nn.Flatten(), nn.Linear(800, 5))
    report = measure_scale_variance(model, losses)
    assert report.variant
    assert set(report.variant) <= {f"0.odd.{i}.weight" for i in range(odd)}
    assert report.forwards <= 20


def test_a_slope_of_zero_by_chance_is_seen_in_another_network():
    """The loss weights the outputs so that they change, but it does not, when w is scaled."""
    model = built(nn.Conv2d(8, 6, 1, bias=False))
    with torch.no_grad():
        along = model(IMAGES) - model[-1].bias  # d out / d log |w|
    away = torch.randn(along.shape, generator=torch.Generator().manual_seed(0))
    away -= along * (away * along).sum() / along.square().sum()
    found = find_scale_variant(model, lambda m: (away * m(IMAGES)).sum(), ["2.weight"])
    assert list(found) == ["2.weight"]


def test_more_suspects_than_are_scaled_alone():
    torch.manual_seed(0)
    depth = MOST_SCALED_ALONE + 3
    layers = [layer for _ in range(depth) for layer in (nn.Conv2d(4, 4, 1), nn.Tanh())]
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh(), *layers, nn.Flatten(), nn.Linear(576, 5))
    for p in model.parameters():
        p.data *= 1.5
    report = measure_scale_variance(model, losses)
    assert len(report.variant) == depth + 1
    assert all(change > 0 for change in report.variant.values())
    assert report.forwards <= 4 + 4 * MOST_SCALED_ALONE


def test_weights_that_no_output_reaches_are_named():
    model = built()
    model.add_module("idle", nn.Conv2d(3, 3, 1))
    model.forward = lambda x: nn.Sequential.forward(model[:-1], x)
    with pytest.warns(UserWarning, match=r"could not be judged for idle\.weight"):
        assert find_scale_variant(model, losses) == {}


def test_one_name_is_a_name_and_a_run_may_not_call_backward():
    model = built(nn.Conv2d(8, 6, 3))
    assert list(find_scale_variant(model, losses, weights="2.weight")) == ["2.weight"]

    def trains(model):
        loss = losses(model)["loss_a"]
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="has called backward already"):
        find_scale_variant(model, trains)


def test_a_weight_that_is_named_is_not_one_that_could_not_be_judged():
    class Gate(nn.Module):
        """No slope tells of the first layer, which opens and shuts the second."""

        def __init__(self):
            super().__init__()
            self.gate, self.on = nn.Conv2d(3, 8, 3), conv_bn(3, 8)

        def forward(self, x):
            is_open = (self.gate(x).mean((2, 3), keepdim=True) > 0.05).float()
            return (is_open * self.on(x)).mean((2, 3))

    torch.manual_seed(0)
    report = measure_scale_variance(Gate(), lambda model: model(IMAGES))
    assert list(report.variant) == ["gate.weight"] and report.unreached == []


class Dies(Exception):
    pass


@pytest.mark.parametrize("fails_at", [None, 1, 2, 3])
@pytest.mark.parametrize("scale", [2.0, 0.37])
def test_everything_is_put_back(fails_at, scale):
    model = built(nn.Conv2d(8, 6, 3), nn.Dropout(0.2), WNConv2d(6, 6, 1))
    model[1][1].weight.data.zero_()
    model[0][0].weight.requires_grad_(False)
    model[1].eval()
    model.get_parameter("2.bias").grad = torch.ones(6)
    model[0][0].weight.data.mul_(1 / 3)
    calls = 0

    def run(model):
        nonlocal calls
        calls += 1
        assert model[1].training
        assert all(p.grad is None for p in model.parameters())
        torch.rand(3), np.random.rand(3), random.random()
        model[0][1].running_mean = model[0][1].running_mean + 1  # replaces the buffer
        out = losses(model)
        if calls == fails_at:
            raise Dies
        return out

    every = [n for n, p in model.named_parameters() if p.dim() == 4]
    before = full_state(model)
    buffers = [id(b) for b in model.buffers()]
    if fails_at is None:
        assert list(find_scale_variant(model, run, every, scale=scale)) == ["2.weight"]
    else:
        with pytest.raises(Dies):
            find_scale_variant(model, run, every, scale=scale)
        assert calls == fails_at
    assert_same_state(before, full_state(model))
    assert buffers == [id(b) for b in model.buffers()]


def test_dropout_sees_the_same_mask_every_time():
    model = built(nn.Dropout(0.5), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    assert find_scale_variant(model, losses) == {}


def test_small_weights_before_a_norm_still_pass():
    """At a tenth of the usual length the eps of a BN weighs a hundred times more."""
    model = built()
    for name in ("0.0.weight", "1.0.weight"):
        model.get_parameter(name).data *= 0.1
    assert find_scale_variant(model, losses) == {}


def test_autocast_is_off_inside():
    seen = []

    def run(model):
        out = losses(model)
        seen.append(model[0][0](IMAGES).dtype)
        return out

    with torch.autocast("cpu", torch.bfloat16):
        find_scale_variant(built(), run)
    assert set(seen) == {torch.float32}


def test_feature_maps_serve_as_well_as_losses():
    """The plain sum of a norm's outputs is constant; that must not hide what lies before it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4, affine=False)
    )
    model[0].weight.data *= 5
    report = measure_scale_variance(model, lambda m: (m(IMAGES),))
    assert (list(report.variant), report.unreached) == (["0.weight"], [])


def test_refusals():
    model = built()
    with pytest.raises(ValueError, match=r"Invalid scale: 1\.0"):
        find_scale_variant(model, losses, scale=1.0)
    with pytest.raises(ValueError, match="Invalid tol: 0"):
        find_scale_variant(model, losses, tol=0)
    with pytest.raises(ValueError, match="no parameter nonsense"):
        find_scale_variant(model, losses, ["nonsense"])
    with pytest.raises(ValueError, match="depends on the weights"):
        find_scale_variant(model, lambda m: m(IMAGES).detach())
    source = iter(torch.randn(100, 4, 3, 12, 12))
    with pytest.raises(ValueError, match="repeat the same batch"):
        find_scale_variant(built(nn.Conv2d(8, 6, 3)), lambda m: m(next(source)).square().mean())


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda _: nn.Identity()])
def test_weights_that_all_lie_in_a_reentrant_checkpoint(norm):
    """They look unused: torch's `grad` finds no way to them and says nothing."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), norm(4), nn.ReLU())
    net.append(nn.Conv2d(4, 4, 3, bias=False)).append(norm(4)).append(nn.Flatten())
    x = torch.randn(4, 3, 8, 8, requires_grad=True)

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.net, x, use_reentrant=True)

    report = measure_scale_variance(Checkpointed(), lambda m: [m(x)])
    expected = set() if norm is nn.BatchNorm2d else {"net.0.weight", "net.3.weight"}
    assert report.variant.keys() == expected and not report.by_eps and not report.unreached
