"""The Cityscapes benchmark's own evaluation, and predictions that its server takes.

cityscapesScripts compares PNG files of label ids; its numbers are those of the benchmark's table.
MMSegmentation's ``CityscapesMetric`` calls it, too, but of the result returns the categories and
not the classes, ends the process where instances are missing, writes paletted files, and at its end
deletes the whole folder that it was given.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from PIL import Image
from prettytable import PrettyTable

from normfix_mm.datasets.cityscapes import label_ids, scripts
from normfix_mm.errors import BadInput

# Keys of cityscapesScripts to columns of the benchmark's table. In iIoU small instances count
# as much as large ones.
COLUMNS = {
    "averageScoreClasses": "IoU_class",
    "averageScoreInstClasses": "iIoU_class",
    "averageScoreCategories": "IoU_category",
    "averageScoreInstCategories": "iIoU_category",
}


@METRICS.register_module(force=True)
class CityscapesOfficialMetric(BaseMetric):
    """IoU and iIoU of classes and categories in percent, by cityscapesScripts.

    The files ``*_gtFine_labelIds.png`` must stand beside the labels of the dataset; without
    ``*_gtFine_instanceIds.png`` there is no iIoU.

    Args:
        output_dir: folder that keeps the predictions: a PNG of label ids for each image, of the
            image's name and size. By default they are gone after the evaluation.
        format_only: write the predictions and evaluate nothing; needs no labels.

    Raises:
        BadInput: cityscapesScripts is not installed, or an image has no file of label ids.
    """

    stock = None  # left out of a folded config
    default_prefix = "official"

    def __init__(
        self,
        output_dir: str | None = None,
        format_only: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.label_ids = label_ids()
        if format_only and output_dir is None:
            raise BadInput("format_only writes files and nothing else; give output_dir.")
        self.output_dir, self.format_only = output_dir, format_only
        self._passing: tempfile.TemporaryDirectory | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write the predictions of a batch, ``["pred_sem_seg"]["data"]`` of shape (1, H, W)."""
        for sample in data_samples:
            truth = "" if self.format_only else _truth(sample)
            path = self._folder() / f"{Path(sample['img_path']).stem}.png"
            classes = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
            Image.fromarray(self.label_ids[classes]).save(path)
            self.results.append((str(path), truth))

    def evaluate(self, size: int) -> dict:
        """Results of the whole dataset of `size` images, the same in every process."""
        try:
            return super().evaluate(size)
        finally:
            if self._passing is not None:
                self._passing.cleanup()
                self._passing = None

    def compute_metrics(self, results: list[tuple[str, str]]) -> dict[str, float]:
        if self.format_only:
            return {}
        predictions, truths = map(list, zip(*results))
        evaluation = scripts("evaluation.evalPixelLevelSemanticLabeling")
        options = copy.copy(evaluation.args)
        options.quiet, options.JSONOutput, options.evalPixelAccuracy = True, False, False
        options.evalInstLevelScore = all(map(os.path.isfile, map(_instances, truths)))
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                found = evaluation.evaluateImgLists(predictions, truths, options)
        except SystemExit:  # its way to report an error
            lines = said.getvalue().strip().splitlines()
            raise BadInput(
                f"cityscapesScripts cannot evaluate: {lines[0] if lines else 'no reason given'}; "
                "check the folder with tools/prepare_cityscapes.py."
            ) from None
        table = PrettyTable(["class", "IoU", "iIoU"])
        kinds = [found[key] for key in ("classScores", "classInstScores")]
        for name in self.dataset_meta["classes"]:
            table.add_row([name, *(_percent(scores[name]) for scores in kinds)])
        print_log(f"cityscapesScripts:\n{table}", logger="current")
        instances = options.evalInstLevelScore
        return {
            column: _percent(found[key])
            for key, column in COLUMNS.items()
            if instances or not column.startswith("i")
        }

    def _folder(self) -> Path:
        """Where this process writes."""
        if self.output_dir is not None:
            os.makedirs(self.output_dir, exist_ok=True)
            return Path(self.output_dir).resolve()
        if self._passing is None:
            self._passing = tempfile.TemporaryDirectory(prefix="cityscapes-")
        return Path(self._passing.name)


def _truth(sample: dict) -> str:
    labels = sample["seg_map_path"]
    path = labels.replace("_labelTrainIds.png", "_labelIds.png")
    if path == labels or not os.path.isfile(path):
        raise BadInput(
            f"The official evaluation needs {path!r}, which is missing; run "
            "tools/prepare_cityscapes.py on the folder."
        )
    return path


def _instances(truth: str) -> str:
    return truth.replace("labelIds", "instanceIds")


def _percent(score: float) -> float:
    return float(np.round(100 * score, 2))
