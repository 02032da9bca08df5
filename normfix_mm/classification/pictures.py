"""Pictures of what a classifier says, one file for each image also where names repeat.

MMPretrain's hook names a picture after its image alone. In a folder of images by class each class
may have a 0001.jpg, and all but one picture would be lost; here each class has its own folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmengine.registry import HOOKS
from mmpretrain.engine import VisualizationHook


@HOOKS.register_module(force=True)
class ClassVisualizationHook(VisualizationHook):
    """MMPretrain's hook, drawing every image into ``out_dir``/<folder of the image>/."""

    def _draw_samples(
        self, batch_idx: int, data_batch: dict, data_samples: Sequence, step: int = 0
    ) -> None:
        root = self.out_dir
        for image, sample in zip(data_batch["inputs"], data_samples):
            if root is not None:
                folder = os.path.basename(os.path.dirname(sample.get("img_path", "")))
                self.out_dir = os.path.join(root, folder)
            super()._draw_samples(0, dict(inputs=[image]), [sample], step)
        self.out_dir = root
