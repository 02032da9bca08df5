"""Do two models compute the same on a real image?

Their stages (what the network itself calls: backbone, neck, each head) are compared on the same
inputs: whenever the first model calls one, the second model's is called with what it was given.
That leaves no room for near-ties: in NMS and in the choice of proposals a rounding error decides
between two boxes, and everything behind would differ. Then both run on their own, and their final
boxes, scores, labels and masks are compared as sets, or their segmentation maps or class scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

from normfix_mm.analysis.outputs import tensors
from normfix_mm.errors import BadInput, one_line

STAGE = 1e-5  # |a - b| / |b| of one output; the folded weights are those the layers compute


class Tolerance(NamedTuple):
    """How far two models' results may lie apart; by default, if both are torch's.

    Attributes:
        coordinate: of the image's longer side.
        pixels: share of the pixels of all masks together, or of the segmentation map.
        alone: share of boxes without a counterpart: near-ties fall either way.
    """

    coordinate: float = 1e-4
    score: float = 1e-4
    pixels: float = 1e-3
    alone: float = 0.02


IN_TORCH = Tolerance()


def compare(model: nn.Module, other: nn.Module, cfg: Config, image: Path) -> tuple[list[str], bool]:
    """Run both on ``image`` through the test pipeline of ``cfg``, in evaluation mode.

    If the first model detects nothing, both lose their score thresholds.

    Returns:
        The largest differences in words, and whether all are within tolerance.

    Raises:
        BadInput: If both find no box even so, and nothing else differs.
    """
    model.eval(), other.eval()
    batch = load(cfg, image)
    stages, result = run_stages(model, other, batch)
    at = "the config's score threshold"
    if "pred_instances" in result and not len(result.pred_instances):
        for each in (model, other):
            remove_score_threshold(each)
        at = "no score threshold, as there are none above the config's"
        stages, result = run_stages(model, other, batch)  # a mask head ran on no box before
    found = run(other, batch)
    worst = max(stages, key=stages.__getitem__)
    lines = [
        f"{len(stages)} stages on equal inputs: {worst} differs most, relatively by "
        f"{stages[worst]:.1e} (tolerance {STAGE:.0e})"
    ]
    fine = stages[worst] <= STAGE
    if "pred_instances" in result:
        if fine and not len(result.pred_instances) and not len(found.pred_instances):
            raise BadInput(
                f"The trained model finds no box on {image}, so its results cannot be compared "
                "(all stages agree); give another image with --image, or train longer."
            )
        text, same = compare_instances(found.pred_instances, result.pred_instances)
        lines.append(f"{text}; with {at}")
        fine &= same
    if "seg_logits" in result:
        change = difference(found.seg_logits.data, result.seg_logits.data)
        moved = (found.pred_sem_seg.data != result.pred_sem_seg.data).float().mean().item()
        lines.append(f"segmentation: logits differ relatively by {change:.1e}, {moved:.2%} pixels")
        fine &= change <= STAGE and moved <= IN_TORCH.pixels
    if "pred_score" in result:
        change = float((found.pred_score - result.pred_score).abs().max())
        allowed = IN_TORCH.score
        lines.append(f"classes: scores differ by at most {change:.1e} (tolerance {allowed:.0e})")
        fine &= change <= allowed
    return lines, fine


def load(cfg: Config, image: Path) -> dict:
    """The image as a batch of one.

    Raises:
        BadInput: It cannot be read, or the config has no pipeline to read it with.
    """
    steps = [step for step in _test_pipeline(cfg) if "Annotations" not in str(step["type"])]
    pipeline = Compose(steps)
    try:
        return pseudo_collate([pipeline(dict(img_path=str(image), img_id=0))])
    except Exception as error:  # each decoder has errors of its own
        raise BadInput(
            f"The image {str(image)!r} cannot be read ({one_line(error, 120)}); give another with "
            "--image."
        ) from None


def _test_pipeline(cfg: Config) -> list:
    """Of the test dataset, of the validation dataset, or by itself."""
    for loader in ("test_dataloader", "val_dataloader"):
        dataset = (cfg.get(loader) or {}).get("dataset")
        while isinstance(dataset, Mapping):  # of a wrapper the one within, or the first
            if dataset.get("pipeline"):
                return dataset["pipeline"]
            dataset = dataset.get("dataset") or (dataset.get("datasets") or [None])[0]
    if cfg.get("test_pipeline"):
        return cfg.test_pipeline
    raise BadInput(
        "The config does not say how an image is read for testing: it needs a `test_dataloader`, a "
        "`val_dataloader` or a `test_pipeline`."
    )


@torch.no_grad()
def run(model: nn.Module, batch: dict):
    """The data sample that the model predicts."""
    return model.test_step(batch)[0]


def run_stages(model: nn.Module, other: nn.Module, batch: dict) -> tuple[dict[str, float], object]:
    """Relative difference of each stage, largest over its calls, and what ``model`` predicts."""
    differences: dict[str, float] = {}

    def compare_stage(name: str, args, kwargs, output) -> None:
        again, once = tensors(other.get_submodule(name)(*args, **kwargs)), tensors(output)
        changes = [difference(a, b) for a, b in zip(again, once)]
        changes.append(math.inf if len(again) != len(once) else differences.get(name, 0.0))
        differences[name] = max(changes)

    with watched_stages(model, compare_stage):
        result = run(model, batch)
    return differences, result


@contextmanager
def watched_stages(model: nn.Module, seen) -> Iterator[None]:
    """Call ``seen(name, args, kwargs, output)`` after each module that ``model`` itself calls."""
    depth = 0

    def enter(*_) -> None:
        nonlocal depth
        depth += 1

    def leave(name: str):
        def hook(_, args, kwargs, output) -> None:
            nonlocal depth
            depth -= 1
            if depth == 1 and name != "data_preprocessor":
                seen(name, args, kwargs, output)

        return hook

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave(name), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def difference(found: Tensor, expected: Tensor) -> float:
    """|a - b| / |b|, infinite if the shapes differ or a value is not finite."""
    if found.shape != expected.shape:
        return math.inf
    found, expected = found.double(), expected.double()
    scale = expected.norm()
    change = float((found - expected).norm() / scale) if scale > 0 else float(found.norm())
    return change if math.isfinite(change) else math.inf


def compare_instances(
    found, expected, name: str = "the folded model", tolerance: Tolerance = IN_TORCH
) -> tuple[str, bool]:
    """Match boxes of equal label; describe the differences of the pairs and count the rest.

    Args:
        found: of ``name``; with bboxes, scores, labels and, if ``expected`` has them, masks.
    """
    if not len(expected):
        return f"{len(found)} boxes of {name} where the trained one finds none", False
    if not len(found):
        return f"0 boxes for {len(expected)}", False
    boxes = torch.cdist(expected.bboxes, found.bboxes, p=math.inf)
    scores = torch.cdist(expected.scores[:, None], found.scores[:, None], p=1)
    labels = expected.labels[:, None] == found.labels
    near = tolerance.coordinate * max(1.0, float(expected.bboxes.abs().max()))
    fits = labels & (boxes <= near) & (scores <= tolerance.score)
    alone = int((~fits.any(1)).sum() + (~fits.any(0)).sum())
    rows = fits.any(1).nonzero().flatten()
    partners = (
        (boxes / near + scores / tolerance.score).masked_fill(~fits, math.inf)[rows].argmin(1)
    )
    text = f"{len(expected)} boxes, {len(found)} of {name}, {alone} without a counterpart"
    fine = alone <= tolerance.alone * (len(expected) + len(found))
    if len(rows):
        text += (
            f"; the pairs differ by at most {boxes[rows, partners].max():.1e} pixels and "
            f"{scores[rows, partners].max():.1e} in score"
        )
        if "masks" in expected:
            one, two = expected.masks[rows], found.masks[partners]
            moved, area = int((one ^ two).sum()), int((one | two).sum())
            text += f", {moved} of {area} mask pixels"
            fine &= moved <= tolerance.pixels * area
    return text, fine


def remove_score_threshold(model: nn.Module) -> None:
    """Set every ``score_thr`` in the test settings of the model's parts to zero."""

    def lower(node) -> None:
        if isinstance(node, Mapping):
            for name, value in node.items():
                if name == "score_thr":
                    node[name] = 0.0
                lower(value)

    for module in model.modules():
        lower(getattr(module, "test_cfg", None))
