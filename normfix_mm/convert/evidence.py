"""What the weights themselves tell about the form they were trained in.

A BN layer remembers the mean of what its convolution gave in training, so the running statistics
say which weight the network really applied. Where a convolution follows BN and a ReLU, each of its
input channels is about a rectified Gaussian of mean beta and deviation |gamma|, whose mean is

    m_c = beta Phi(beta/|gamma|) + |gamma| phi(beta/|gamma|)

and the expected output of filter f is sum_c m_c sum_k W_fck for the effective weight W (but for
the shape of the distribution and zero padding). Predicted from the weight as it stands, it agrees
with the stored running mean in a plain network; in one with standardized filters it is dominated
by the filters' means, which that network never saw, and the two are unrelated. Where training has
decayed these means away, the slope tells: the two predictions differ by the filters' deviation.
WN without a gain differs from plain by the filters' lengths only, which are about 1: it is taken
for plain, unless a config or metadata says better.

The weights alone tell less. The mean of a filter is a free direction of WS: no gradient, only
decay, so a long training leaves t_f = sqrt(n) |mu_f| / s_f near 0, where chance has 1. But a short
one leaves it where it was, and a plain filter may be centered too: t is reported and decides
nothing. Derived here; measured in tests/convert/test_evidence.py.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from normfix_mm.checkpoints.forms import NOT_PLAIN, PLAIN
from normfix_mm.layers import functional

# Convolution, norm before it, norm behind it, and where the activation between saturates.
_CHAINS = (
    (r"(.*?)conv3", r"\1bn2", r"\1bn3", math.inf),  # bottleneck
    (r"(.*?)conv2", r"\1bn1", r"\1bn2", math.inf),  # bottleneck and basic block
    (r"(.*?)linear_conv\.conv", r"\1depthwise_conv.bn", r"\1linear_conv.bn", 6.0),  # MobileNetV2
)
# ResNets of 18 and 50 layers, 60 and 150 iterations on photographs: correlation with the plain
# prediction 0.98 and more for plain ones, 0.17 and less for standardized ones, whose own
# prediction has 0.18 to 0.59; slopes of the true form 0.5 to 1.2.
_AGREES, _APART, _UNRELATED, _SLOPES = 0.4, 0.2, 0.3, (0.25, 4.0)


@dataclass(frozen=True)
class Evidence:
    """What was measured, as medians over the layers.

    Attributes:
        correlations: form to correlation of predicted and stored running mean.
        slopes: form to slope of stored on predicted; 1 for the form of the file.
        layers: how many convolutions that was measured on.
        t: root mean square of t_f over all filters; 1 by chance, near 0 for centered filters.
    """

    correlations: dict[str, float]
    slopes: dict[str, float]
    layers: int
    t: float

    @property
    def form(self) -> str | None:
        """'plain', 'WS', NOT_PLAIN where only that is clear, or None."""
        if not self.layers:
            return None
        low, high = _SLOPES
        fits = {f: c for f, c in self.correlations.items() if low < self.slopes[f] < high}
        best = max(fits, key=fits.__getitem__, default=None)
        others = [correlation for form, correlation in fits.items() if form != best]
        if best and fits[best] > _AGREES and all(fits[best] - c > _APART for c in others):
            return best
        return NOT_PLAIN if self.correlations[PLAIN] < _UNRELATED else None

    def __str__(self) -> str:
        chance = f"rms of sqrt(n) mean/std over the filters {self.t:.2g} (chance: 1)"
        if not self.layers:
            return f"no running statistics to compare the weights with; {chance}"
        figures = ", ".join(
            f"as {form} {correlation:.2f} (slope {self.slopes[form]:.2g})"
            for form, correlation in self.correlations.items()
        )
        return (
            "correlation of BN's running means with what the weights predict, median of "
            f"{self.layers} layers: {figures}; {chance}"
        )


@torch.no_grad()
def examine(state: Mapping[str, Tensor]) -> Evidence:
    """Measure a state dict with the names of MMDetection's ResNets or MobileNetV2."""
    effective = {PLAIN: lambda weight: weight, "WS": functional.standardize}
    correlations: dict[str, list[float]] = {form: [] for form in effective}
    slopes: dict[str, list[float]] = {form: [] for form in effective}
    for weight, means, stored in _chains(state):
        for form, normalize in effective.items():
            predicted = normalize(weight).sum(dim=(2, 3)) @ means
            correlation = torch.corrcoef(torch.stack([predicted, stored]))[0, 1]
            correlations[form].append(float(correlation.nan_to_num()))
            slopes[form].append(float(predicted @ stored / predicted.square().sum()))
    rows = [w.double().flatten(1) for w in state.values() if w.dim() == 4 and w[0].numel() > 1]
    t = [row.mean(1) * row.shape[1] ** 0.5 / row.std(1).clamp_min(1e-30) for row in rows]
    rms = float(torch.cat(t).square().mean().sqrt()) if t else math.nan
    medians = [{f: median(v) for f, v in each.items() if v} for each in (correlations, slopes)]
    return Evidence(*medians, len(slopes[PLAIN]), rms)


def _chains(state: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Weight, mean of each input channel and running mean, of each norm-ReLU-convolution-norm."""
    for key, weight in state.items():
        for pattern, before, behind, ceiling in _CHAINS:
            match = re.fullmatch(pattern + r"\.weight", key)
            if match is None or weight.dim() != 4:
                continue
            gamma, beta = (state.get(f"{match.expand(before)}.{p}") for p in ("weight", "bias"))
            stored = state.get(f"{match.expand(behind)}.running_mean")
            if gamma is None or beta is None or stored is None:
                continue
            # A grouped convolution sees a part of the channels; a fresh norm has seen nothing.
            if weight.shape[1] == len(gamma) and len(stored) > 1 and stored.any():
                means = rectified_mean(beta.double(), gamma.double(), ceiling)
                yield weight.double(), means, stored.double()
            break


def rectified_mean(mean: Tensor, deviation: Tensor, ceiling: float = math.inf) -> Tensor:
    """Mean of min(max(z, 0), ceiling) for Gaussian z, element by element."""
    scale = deviation.abs().clamp_min(1e-30)

    def positive_part(mean: Tensor) -> Tensor:
        z = mean / scale
        density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        return mean * torch.special.ndtr(z) + scale * density

    return positive_part(mean) - (0 if math.isinf(ceiling) else positive_part(mean - ceiling))
