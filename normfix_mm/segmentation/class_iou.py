"""mIoU with the IoU of every class beside it, where scalars are kept.

MMSegmentation's metric only prints the classes in a table; here they are values like any other:
``IoU/car`` in scalars.json and TensorBoard, and for ``save_best='IoU/car', rule='greater'``.
"""

from __future__ import annotations

from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric
from torch import Tensor


@METRICS.register_module(force=True)
class ClassIoUMetric(IoUMetric):
    """IoUMetric, with its options, that also gives ``IoU/<class>`` in percent.

    A class that is neither in the labels nor in the predictions has no IoU and is left out, as it
    is of the mean.

    Attributes:
        stock, own_options: What stands for it in a folded config, and the arguments left out.
    """

    stock = IoUMetric
    own_options: tuple[str, ...] = ()

    def compute_metrics(self, results: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> dict:
        """Metrics of all images.

        Args:
            results: of each image its numbers of pixels per class: in prediction and label, in
                either, predicted, labelled.
        """
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        common, either = (sum(image[i] for image in results) for i in (0, 1))
        for name, inner, outer in zip(self.dataset_meta["classes"], common, either):
            if outer:
                metrics[f"IoU/{name}"] = round(100 * float(inner / outer), 2)
        return metrics
