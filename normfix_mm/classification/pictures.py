"""Pictures of what a classifier says, one file for each image also where names repeat.

MMPretrain's hook names a picture after its image alone, or where that is no file after its place in
the batch, and takes all images to be RGB. In a folder of images by class each class may have a
0001.jpg, and all but one picture would be lost; here each class has its own folder, and what is no
file a number. OpenCV reads BGR, which the model turns.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmengine.registry import HOOKS
from mmpretrain.engine import VisualizationHook
from torch import Tensor


@HOOKS.register_module(force=True)
class ClassVisualizationHook(VisualizationHook):
    """MMPretrain's hook, drawing every image into ``out_dir``/<folder of the image>/.

    Of the views of test-time augmentation the first that is not flipped is drawn.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._turned = False  # whether the model takes RGB and is given BGR
        self._drawn = 0

    def before_val_epoch(self, runner) -> None:
        self._drawn = 0
        parts = (getattr(module, "data_preprocessor", None) for module in runner.model.modules())
        self._turned = any(getattr(part, "to_rgb", False) for part in parts)

    before_test_epoch = before_val_epoch

    def _draw_samples(
        self, batch_idx: int, data_batch: dict, data_samples: Sequence, step: int = 0
    ) -> None:
        root, images = self.out_dir, data_batch["inputs"]
        averaged = len(images) > 0 and not isinstance(images[0], Tensor)
        if averaged:
            images = images[_unflipped(data_batch["data_samples"])]
        for image, sample in zip(images, data_samples):
            if root is not None:
                folder = os.path.basename(os.path.dirname(sample.get("img_path", "")))
                self.out_dir = os.path.join(root, folder)
            if self._turned and len(image) == 3:
                image = image.flip(0)
            if averaged and "pred_label" in sample:  # which is still that of the first view
                sample = sample.clone().set_pred_label(sample.pred_score.argmax().item())
            super()._draw_samples(self._drawn, dict(inputs=[image]), [sample], step)
            self._drawn += 1
        self.out_dir = root


def _unflipped(views: Sequence[Sequence]) -> int:
    """Which of several views of a batch shows the images as they are; the first if none does."""
    whole = (k for k, samples in enumerate(views) if not any(s.get("flip") for s in samples))
    return next(whole, 0)
