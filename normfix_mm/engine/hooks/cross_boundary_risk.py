"""FixNorm's cross-boundary risk (eq. 9) of validation features, logged with every evaluation.

Decay holds it down through the classifier's norm; without decay and without a bound it grows, and
accuracy falls (FixNorm, section 2.3 and Fig. 2). So it is logged for baselines as for our methods,
and for stock heads as for ours.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from normfix_mm.analysis.metrics import mean_cross_boundary_risk
from normfix_mm.engine.classified import ClassifierReader, NotKnown, readers_of
from normfix_mm.errors import listing, one_line
from normfix_mm.optim.weights import unwrapped


@HOOKS.register_module(force=True)
class CrossBoundaryRiskHook(Hook):
    """Log 'val/mcbr/<layer>' of each classifier; change nothing.

    It is the mean of MCBR over features of all validation images, of all ranks: in the log, on the
    page and in every backend of the visualizer. The class vectors are the rows of the weight that
    the layer applies. Which features, and which classes, says the reader of the kind of head:
    `normfix_mm.classification.classified`, `.detection.classified`, `.segmentation.classified`.

    A model without a classifier of a known kind, validation images without labels, and whatever
    else stands in the way are said in one sentence, once; the run goes on.

    Args:
        most: as many features of an image at the most: boxes, places or pixels.

    Raises:
        ValueError: `most` is below 1.
    """

    priority = 55  # before LoggerHook reads the message hub

    def __init__(self, most: int = 100) -> None:
        if most < 1:
            raise ValueError(f"CrossBoundaryRiskHook: most={most} must be at least 1.")
        self.most = most
        self._readers: list[ClassifierReader] | None = None
        self._said: set[str] = set()

    def before_val_epoch(self, runner) -> None:
        if self._readers is None:
            self._readers = readers_of(unwrapped(runner.model))
            if not self._readers:
                self._say("the model has no classifier of a known kind for two or more classes")
        # Sum and number of the risks. Of the model alone, so that every rank has the same rows.
        self._risks = torch.zeros(len(self._readers), 2, dtype=torch.float64)
        self._failed: set[str] = set()
        for reader in self._readers:
            reader.detach()  # of a validation that was interrupted
            # Or the value of an earlier evaluation would be logged again where there is none now.
            runner.message_hub.log_scalars.pop(_key(reader), None)
            reader.attach(runner.val_dataloader.dataset)

    @torch.no_grad()
    def after_val_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None
    ) -> None:
        for reader, row in zip(self._readers or (), self._risks):
            if reader.name in self._failed:
                continue
            try:
                for seen in reader.read(outputs or (), self.most):
                    if len(seen.labels):
                        risks = mean_cross_boundary_risk(*seen).double()
                        row += torch.stack([risks.sum(), risks.new_tensor(len(risks))]).cpu()
            except Exception as error:  # a monitor must not end a training, whatever the head
                reader.detach()
                self._failed.add(reader.name)
                why = error if isinstance(error, NotKnown) else f"{type(error).__name__}: {error}"
                self._say(f"{reader.name} was left out: {one_line(why, 200)}")

    def after_val_epoch(self, runner, metrics=None) -> None:
        for reader in self._readers or ():
            reader.detach()
        if not self._readers:
            return
        all_reduce(self._risks)
        unseen = []
        for reader, (total, count) in zip(self._readers, self._risks.tolist()):
            if count:
                runner.message_hub.update_scalar(_key(reader), total / count)
            elif reader.name not in self._failed:
                unseen.append(reader.name)
        if unseen:
            self._say(f"no labelled feature came to {listing(unseen)} in this validation")

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            sentence = f"Cross-boundary risk (MCBR) is not logged: {what}."
            print_log(sentence, logger="current", level=logging.INFO)


def _key(reader: ClassifierReader) -> str:
    return f"val/mcbr/{reader.name}"
