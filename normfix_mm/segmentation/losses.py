"""Class-weighted cross entropy with ignored pixels, and with hard examples only.

MMSegmentation's ``CrossEntropyLoss(class_weight=...)`` raises IndexError at label 255 (its issues
3734 and 3831; in 1.4 of the maintained fork with ``avg_non_ignore=True``), and its
``OHEMPixelSampler`` keeps `min_kept` pixels an image and averages over all. Here, as in OCNet,
which uses torch's own loss: a mean weighted by class over the pixels that count, and at least
`min_kept` of a whole batch (of one GPU).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.losses.utils import get_class_weight
from torch import Tensor, nn


@MODELS.register_module(force=True)
class WeightedCrossEntropyLoss(nn.Module):
    """Σ w_y · nll / Σ w_y over the pixels whose label y is not ignored; 0 if there is none.

    Args:
        class_weight: w, one for each class, or a file with them; all 1 by default.
        loss_weight: factor of the whole.
        loss_name: in the log; what starts with 'loss_' is trained on.

    Attributes:
        stock, own_options: What stands for it in a folded model, and the arguments left out.
    """

    stock = CrossEntropyLoss
    own_options: tuple[str, ...] = ("class_weight",)

    def __init__(
        self,
        class_weight: Sequence[float] | str | None = None,
        loss_weight: float = 1.0,
        loss_name: str = "loss_ce",
    ) -> None:
        super().__init__()
        weights = get_class_weight(class_weight)
        weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: shape (N, classes, H, W).
            labels: shape (N, H, W), of integers.
            weight: of each pixel, shape (N, H, W), multiplies its w_y; pixel samplers give one.
            ignore_index: label of the pixels that do not count.
            reduction_override: 'none' for w_y · nll of each pixel, shape (N, H, W).

        Raises:
            ValueError: Another number of class weights than of classes, or another reduction.
        """
        if reduction_override not in (None, "mean", "none"):
            raise ValueError(f"No reduction {reduction_override!r}; choose 'mean' or 'none'.")
        labels = labels.long()
        counts = labels != ignore_index
        losses = F.cross_entropy(
            logits.float(), labels, ignore_index=ignore_index, reduction="none"
        )
        weights = self.kept(losses.detach(), counts).to(losses.dtype)
        if self.class_weight is not None:
            if len(self.class_weight) != logits.shape[1]:
                raise ValueError(
                    f"{len(self.class_weight)} class weights for {logits.shape[1]} classes; give "
                    "class_weight one number for each class."
                )
            weights = weights * self.class_weight[labels.where(counts, 0)]
        if weight is not None:
            weights = weights * weight
        if reduction_override == "none":
            return self.loss_weight * weights * losses
        # Without a single pixel that counts, 0 with zero gradients and not 0 / 0.
        least = torch.finfo(weights.dtype).tiny
        return self.loss_weight * (weights * losses).sum() / weights.sum().clamp(min=least)

    def kept(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Which pixels are trained on, shape (N, H, W), of those whose label counts."""
        return counts


@MODELS.register_module(force=True)
class OHEMWeightedCrossEntropyLoss(WeightedCrossEntropyLoss):
    """The same over hard pixels: those whose label has a probability of at most `thresh`.

    If these are fewer than `min_kept`, the `min_kept` pixels of lowest probability in the batch.

    Args:
        thresh: probability.
        min_kept: pixels of a batch, not of an image.
        **kwargs: of ``WeightedCrossEntropyLoss``.
    """

    own_options = ("class_weight", "thresh", "min_kept")

    def __init__(self, thresh: float = 0.7, min_kept: int = 100_000, **kwargs) -> None:
        super().__init__(**kwargs)
        self.thresh = thresh
        self.min_kept = min_kept

    def kept(self, losses: Tensor, counts: Tensor) -> Tensor:
        probability = torch.exp(-losses).where(counts, 2.0)  # 2.0 sorts ignored pixels last
        threshold = losses.new_full((), self.thresh)
        if self.min_kept > 0:
            k = min(self.min_kept, probability.numel())
            threshold = threshold.maximum(probability.flatten().kthvalue(k).values)
        return counts & (probability <= threshold)
