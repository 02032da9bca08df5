"""Two numbers that say how a normalized network is doing.

* The effective learning rate: what a step of size η does to a weight that acts only through its
  direction (ε-shifted L2 regularizer: η/‖w‖ for WN, η/σ for WS; as a rotation: η/‖w‖²).
* The mean cross-boundary risk of FixNorm (eq. 9): how far a feature leans over the boundaries
  between its own class and the others.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

FORMS = ("direction", "WN", "CWN", "WS")
# Elements of the largest temporary of mean_cross_boundary_risk: 32 MB in float64.
CHUNK = 4_000_000


@torch.no_grad()
def effective_learning_rate(
    lr: float | Tensor, weight: Tensor | Iterable[Tensor], form: str = "direction"
) -> Tensor:
    """Learning rate as a normalized weight feels it.

    Args:
        lr: the optimizer's η.
        weight: one weight of shape (F, ...), or, with 'direction' only, several tensors taken as
            one joint vector (FixNorm).
        form: 'direction', η/‖W‖²: the step of the unit vector W/‖W‖, whole tensor(s), 0-dim;
            'WN', η/‖w_f‖; 'CWN', η/‖w_f − μ_f‖; 'WS', η/σ_f with the unbiased deviation: the rate
            in the normalized filter's own scale, shape (F,).

    Returns:
        float64 tensor on the weight's device; infinite where the weight's size is zero.
    """
    if form not in FORMS:
        raise ValueError(f"Unknown form={form!r}; choose one of {', '.join(FORMS)}.")
    if form == "direction":
        tensors = [weight] if isinstance(weight, Tensor) else list(weight)
        if not tensors:
            raise ValueError("effective_learning_rate needs at least one weight, got none.")
        norms = [torch.linalg.vector_norm(t.detach(), dtype=torch.float64) for t in tensors]
        return lr / torch.stack([n.to(norms[0].device) for n in norms]).square().sum()
    if not isinstance(weight, Tensor):
        raise ValueError(f"form={form!r} is per filter and takes one tensor; several: 'direction'.")
    rows = weight.detach().double().flatten(1)
    if form != "WN":
        rows = rows - rows.mean(1, keepdim=True)
    size = torch.linalg.vector_norm(rows, dim=1)
    return lr / (size / max(rows.shape[1] - 1, 1) ** 0.5 if form == "WS" else size)


@torch.no_grad()
def mean_cross_boundary_risk(features: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    r"""FixNorm's MCBR (eq. 9) of each sample: mean over j ≠ k of cos(x, W_j − W_k).

    Args:
        features: x, shape (N, D), what the classifier sees.
        labels: k, integer, shape (N,), in [0, C).
        weight: W of the classifier, shape (C, D), C ≥ 2; trailing 1×1 dimensions are allowed.

    Returns:
        Risks in [−1, 1], shape (N,), lower is better. A cosine with a zero vector (zero features,
        a class vector equal to W_k) counts as 0.

    Memory beside the arguments: O(N) + O(C·D) + chunks of 32 MB, never N×C×D. Products are
    float64, so that x·W_j − x·W_k stays accurate where two class vectors differ by float32
    rounding only.
    """
    weight = weight.detach().flatten(1)
    _check(features, labels, weight)
    n, classes = len(features), len(weight)
    # A common offset of all class vectors cancels in every difference: better before than after.
    weight = weight.double()
    weight = weight - weight.mean(0)
    risks = torch.zeros(n, dtype=torch.float64, device=features.device)
    # In the order of the labels a chunk has few distinct ones, so each distance is computed about
    # once, and only for classes that occur.
    order = labels.argsort()
    step = max(1, CHUNK // max(classes, weight.shape[1]))
    for rows in order.split(step):
        x = features[rows].double()
        own, index = labels[rows].unique(return_inverse=True)
        # Not by matmul: ‖a‖² + ‖b‖² − 2ab cancels where two class vectors are close.
        distance = torch.cdist(weight[own], weight, compute_mode="donot_use_mm_for_euclid_dist")
        inverse = torch.where(distance > 0, 1 / distance, 0.0)
        scores = x @ weight.T
        scores -= scores.gather(1, labels[rows].unsqueeze(1))
        scores *= inverse[index]
        length = torch.linalg.vector_norm(x, dim=1)
        total = scores.sum(1) / (classes - 1)
        risks[rows] = torch.where(length > 0, total / length, 0.0)
    dtype = features.dtype if features.dtype in (torch.float32, torch.float64) else torch.float32
    return risks.clamp_(-1, 1).to(dtype)


def _check(features: Tensor, labels: Tensor, weight: Tensor) -> None:
    shapes = f"features {tuple(features.shape)}, labels {tuple(labels.shape)}"
    shapes += f", weight {tuple(weight.shape)}"
    if features.dim() != 2 or labels.shape != features.shape[:1]:
        raise ValueError(f"mean_cross_boundary_risk wants features (N, D), labels (N,): {shapes}.")
    if weight.shape[1:] != features.shape[1:] or len(weight) < 2:
        raise ValueError(
            f"mean_cross_boundary_risk wants weight (C, D), C ≥ 2, the features' D: {shapes}."
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"mean_cross_boundary_risk: labels must be integers, got {labels.dtype}.")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(weight):
        raise ValueError(
            f"mean_cross_boundary_risk: labels must lie in [0, {len(weight)}), got"
            f" {int(labels.min())}…{int(labels.max())}: leave out ignored samples first."
        )
