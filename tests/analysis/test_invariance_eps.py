"""A weight that only the eps of a norm keeps from being scale-invariant is told from a real one."""

import pytest
import torch
from torch import nn

from normfix_mm import find_scale_variant
from normfix_mm.analysis.invariance import measure_scale_variance


@pytest.mark.since_torch("2.4", "RMSNorm")
@pytest.mark.parametrize("eps", [1e-5, None])
def test_the_eps_of_an_rms_norm_is_told_from_a_weight_that_nothing_normalizes(eps):
    class Channels(nn.RMSNorm):
        def forward(self, x):
            return super().forward(x.movedim(1, -1)).movedim(-1, 1)

    torch.manual_seed(0)
    images, before = torch.randn(4, 3, 12, 12), nn.Conv2d(3, 8, 3)
    conv = nn.Conv2d(8, 8, 3, bias=False)
    model = nn.Sequential(before, conv, Channels(8, eps=eps), nn.Flatten(), nn.Linear(512, 5))
    with torch.no_grad():
        conv.weight.mul_(3e-4 if eps is None else 3e-3)
    with pytest.warns(UserWarning, match=r"eps of the norm .*1\.weight"):
        assert find_scale_variant(model, lambda m: m(images).sin().mean(), ["1.weight"]) == {}


class RMSNorm2d(nn.Module):
    """As libraries have them, under no class of torch's."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps)


@pytest.mark.parametrize(
    "norm",
    [
        RMSNorm2d(0.1),
        pytest.param(
            nn.RMSNorm([6, 6], eps=0.1) if hasattr(nn, "RMSNorm") else None,
            marks=pytest.mark.skipif(not hasattr(nn, "RMSNorm"), reason="torch < 2.4"),
        ),
    ],
)
def test_the_eps_of_norms_that_are_none_of_torch_s_old_ones_is_told_apart(norm):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), norm, nn.Flatten(), nn.Linear(144, 2))
    x = torch.randn(4, 3, 8, 8)
    with pytest.warns(UserWarning, match=r"eps of the norm behind them \(0.1\).*0\.weight"):
        assert find_scale_variant(net, lambda m: [m(x)], ["0.weight"]) == {}
    assert norm.eps == 0.1


@pytest.mark.parametrize("std", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("rounding", [0.0, 1e-7, 3e-7])
def test_a_channel_without_variance_hides_no_eps(std, rounding):
    """As in a trained network on small maps: rounding is all the variance that the channel has."""
    torch.manual_seed(0)
    images = std * torch.randn(4, 3, 12, 12)
    images[:, 0] = 5.3 * (1 + rounding * torch.randn(4, 12, 12))
    model = nn.Sequential(
        nn.Conv2d(3, 3, 5, groups=3, bias=False),
        nn.BatchNorm2d(3, eps=1e-3),
        nn.Flatten(),
        nn.Linear(192, 5),
    )
    report = measure_scale_variance(model, lambda m: m(images).square().mean(), ["0.weight"])
    assert not report.variant and set(report.by_eps) == {"0.weight"}
