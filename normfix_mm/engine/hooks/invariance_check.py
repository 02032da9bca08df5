"""Refuse to fix the norm of weights whose rescaling would change the network.

Measured on a real batch of the run with `normfix_mm.find_scale_variant`, which leaves the model,
the random states and the gradients as they were and gives the same verdict on every rank.
"""

import copy
import logging

from mmengine.logging import print_log
from torch import nn

from normfix_mm.analysis.invariance import ScaleReport, eps_note, measure_scale_variance
from normfix_mm.errors import BadInput, listing

_REMEDY = (
    "train the norm behind such a weight (norm_eval=False), or normalize the layer "
    "itself (conv_cfg=dict(type='WNConv2d', gain=True), normfix_mm.normalize_layers), or leave it "
    "out with exclude=..., or, knowing this, set check='warn'"
)


class ScaleVariantWeights(BadInput):
    """Weights whose norm was to be fixed change the network when rescaled; a ValueError."""


def check_scale_invariance(
    model: nn.Module, data_batch, names: list[str], only_warn: bool = False
) -> dict[str, float]:
    """Measure the named weights on one batch of an mmengine model.

    Args:
        data_batch: what the train dataloader gave; it is not modified.
        only_warn: print the offenders instead of raising.

    Returns:
        name -> relative change of the losses when this weight doubles; empty if none changes them.

    Raises:
        ScaleVariantWeights: with the offenders and the remedy.
    """

    def losses(model: nn.Module):
        # The preprocessor writes into the samples it is given.
        data = model.data_preprocessor(copy.deepcopy(data_batch), True)
        if isinstance(data, dict):
            found = model(**data, mode="loss")
        else:
            found = (
                model(*data, mode="loss") if isinstance(data, tuple | list) else model(data, "loss")
            )
        # What mmengine trains on. A segmenter's accuracy stands beside it, and jumps at ties.
        return {name: value for name, value in found.items() if "loss" in name}

    report = measure_scale_variance(model, losses, names, keep_modes=True)
    variant = report.variant
    for note in _notes(model, report):
        print_log(f"NormFixHook: {note}", logger="current", level=logging.WARNING)
    if variant:
        measured = [f"{name} ({change:.1e})" for name, change in variant.items()]
        message = (
            f"NormFixHook: fixing their norm would change the network, because {len(variant)} of "
            f"{len(names)} weights are not scale-invariant (change of the losses when the weight "
            f"doubles): {listing(measured)}; {_REMEDY}."
        )
        if not only_warn:
            raise ScaleVariantWeights(message)
        print_log(message, logger="current", level=logging.WARNING)
    else:
        count = len(names) - len(report.by_eps) - len(report.unreached)
        all_ = "all " if count == len(names) else ""
        print_log(f"NormFixHook: {all_}{count} weights are scale-invariant.", logger="current")
    return variant


def _notes(model: nn.Module, report: ScaleReport) -> list[str]:
    """What does not stop a run and is worth a warning."""
    notes = [eps_note(model, report.by_eps)] if report.by_eps else []
    if report.unreached:
        notes.append(
            f"scale-invariance could not be judged for {listing(report.unreached)}: no loss of the "
            "first batch depends on them."
        )
    return notes
