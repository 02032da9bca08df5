"""Accuracy with that of every class beside it, where scalars are kept.

``accuracy/top1`` as MMPretrain has it, and ``recall/cat``: the share of the images of a class that
are recognized, in percent, in scalars.json and TensorBoard like any other value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from mmengine.registry import METRICS
from mmpretrain.evaluation import Accuracy

RECALL = "recall/"


@METRICS.register_module(force=True)
class ClassAccuracy(Accuracy):
    """Accuracy, with its options, that also gives ``recall/<class>`` in percent.

    A class of which no image is evaluated has none and is left out.

    Attributes:
        stock, own_options: What stands for it in a folded config, and the arguments left out.
    """

    stock = Accuracy
    own_options: tuple[str, ...] = ()

    def evaluate(self, size: int) -> dict[str, float]:
        """What Accuracy says of so many images, and the recall of each class."""
        metrics = super().evaluate(size)
        prefix = f"{self.prefix}/"
        own = f"{prefix}{RECALL}"  # the prefix is of the accuracies
        return {k.removeprefix(prefix) if k.startswith(own) else k: v for k, v in metrics.items()}

    def compute_metrics(self, results: Sequence[dict]) -> dict[str, float]:
        """Of each image `gt_label` and `pred_score`, shape (classes,), or `pred_label`."""
        truth = torch.cat([each["gt_label"].reshape(-1) for each in results])
        found = torch.stack(
            [
                each["pred_score"].argmax() if "pred_score" in each else each["pred_label"][0]
                for each in results
            ]
        )
        names = (self.dataset_meta or {}).get("classes") or []
        twice = {name for name, count in Counter(names).items() if count > 1}  # ImageNet's cranes
        recalls = {
            f"{RECALL}{name} ({label})" if name in twice else f"{RECALL}{name}": round(
                100 * float((found[truth == label] == label).float().mean()), 2
            )
            for label, name in enumerate(names)
            if bool((truth == label).any())
        }
        return super().compute_metrics(results) | recalls
