"""Features and labels of detectors, for the cross-boundary risk.

Box heads of two-stage detectors (``fc_cls``; each stage of a cascade): the features of the
ground-truth boxes themselves, which are run through the head beside the proposals. Positives among
the proposals would be other boxes at each evaluation and under each method, and none where a young
RPN finds nothing; so the curves of runs would differ by what was looked at. The background is a row
of the weight like any other, as it is for the cap α√outputs.

Dense heads (``retina_cls``, ``conv_cls`` …): the features at places that the head's own code
assigns to an object, with the class of that object. With A anchors a place there are A classifiers
of one row a class, and MCBR is that of the place's anchor, over its rows. A head with focal loss
trains each row against the background and none against another: its MCBR says how well classes are
told apart where there is an object, and nothing of objects and background.

Other layers have no two classes to tell apart: RPN's one row an anchor; a mask head's rows, of
which each draws the masks of one class.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from normfix_mm.engine.classified import (
    Classified,
    ClassifierReader,
    NotKnown,
    at_places,
    chosen,
    finds_readers,
    tells_classes_apart,
)


@finds_readers
def find(model: nn.Module) -> list[ClassifierReader]:
    return [*_box_readers(model), *_dense_readers(model)]


def _box_readers(model: nn.Module) -> Iterator[ClassifierReader]:
    roi_head = getattr(model, "roi_head", None)
    forward = getattr(roi_head, "_bbox_forward", None)
    heads = getattr(roi_head, "bbox_head", None)
    if forward is None or not isinstance(heads, nn.Module):
        return
    cascade = isinstance(heads, nn.ModuleList)
    # Those with more arguments need what is not known here: HTC's and Sparse R-CNN's.
    if len(inspect.signature(forward).parameters) != 2 + cascade:
        return
    for stage, head in enumerate(heads if cascade else [heads]):
        classifier = getattr(head, "classifier", "fc_cls")
        layer = getattr(head, classifier, None)
        if isinstance(layer, nn.Linear) and tells_classes_apart(layer, layer.out_features):
            place = f"roi_head.bbox_head{f'.{stage}' if cascade else ''}.{classifier}"
            yield BoxReader(place, layer, roi_head, stage if cascade else None)


def _dense_readers(model: nn.Module) -> Iterator[ClassifierReader]:
    head = getattr(model, "bbox_head", None)
    rows, anchors = (getattr(head, n, 0) for n in ("cls_out_channels", "num_base_priors"))
    if not isinstance(head, nn.Module) or not all(isinstance(n, int) for n in (rows, anchors)):
        return
    # One that samples at random would draw from the run's random numbers.
    if type(getattr(head, "sampler", None)).__name__ not in ("PseudoSampler", "NoneType"):
        return
    classifier = getattr(head, "classifier", None)
    for name, layer in head.named_children():
        if (
            (name == classifier if classifier else "cls" in name)
            and getattr(layer, "out_channels", None) == rows * anchors
            and tells_classes_apart(layer, rows)
            and hasattr(head, "get_targets")
        ):
            yield DenseReader(f"bbox_head.{name}", layer, head)


class _DetectionReader(ClassifierReader):
    """Ground truth of samples, in the pixels of the network's input."""

    def attach(self, dataset) -> None:
        self._resized = _loads_before_resizing(dataset)

    def _truth(self, samples: Sequence, key: str = "gt_instances") -> list[InstanceData]:
        if any("bboxes" not in sample.get("gt_instances", ()) for sample in samples):
            raise NotKnown("the validation pipeline loads no boxes")
        truth = []
        for sample in samples:
            found = sample.get(key)
            boxes = found.bboxes if "bboxes" in (found or ()) else torch.zeros(0, 4)
            boxes = getattr(boxes, "tensor", boxes).to(self.layer.weight.device)
            if not self._resized and "scale_factor" in sample:
                boxes = boxes * boxes.new_tensor(sample.scale_factor).repeat(2)
            kept = InstanceData(bboxes=boxes)
            if key == "gt_instances":
                kept.labels = found.labels.to(boxes.device)
            truth.append(kept)
        return truth


class BoxReader(_DetectionReader):
    """The ground-truth boxes, through the box head."""

    def __init__(self, name: str, layer: nn.Module, roi_head, stage: int | None) -> None:
        super().__init__(name, layer)
        self.roi_head, self.stage = roi_head, stage

    def attach(self, dataset) -> None:
        super().attach(dataset)
        self._maps: Sequence[Tensor] | None = None
        extractor = self.roi_head.bbox_roi_extractor
        if self.stage is not None:
            extractor = extractor[self.stage]
        self._listen(extractor.register_forward_pre_hook(self._keep))

    def _keep(self, extractor, inputs) -> None:
        self._maps = inputs[0]

    def read(self, samples: Sequence, most: int) -> Iterator[Classified]:
        maps, self._maps = self._maps, None
        if maps is None:
            return
        rois, labels = [], []
        for number, truth in enumerate(self._truth(samples)):
            picks = chosen(torch.ones_like(truth.labels, dtype=torch.bool), most)
            boxes = truth.bboxes[picks]
            rois.append(torch.cat([boxes.new_full((len(boxes), 1), number), boxes], 1))
            labels.append(truth.labels[picks])
        k = torch.cat(labels)
        if not len(k):
            return
        heard: list[Tensor] = []
        handle = self.layer.register_forward_pre_hook(
            lambda layer, inputs: heard.append(inputs[0].detach())
        )
        try:
            stage = () if self.stage is None else (self.stage,)
            self.roi_head._bbox_forward(*stage, maps, torch.cat(rois))
        finally:
            handle.remove()
            self._maps = None  # the extractor has run again
        yield Classified(heard[0].flatten(1), k, self.weight)


class DenseReader(_DetectionReader):
    """Places that the head itself would train on as objects."""

    def __init__(self, name: str, layer: nn.Module, head: nn.Module) -> None:
        super().__init__(name, layer)
        self.head = head

    def attach(self, dataset) -> None:
        super().attach(dataset)
        self._maps: list[Tensor] = []
        self._scores: tuple | None = None
        self._listen(
            self.layer.register_forward_pre_hook(
                lambda layer, inputs: self._maps.append(inputs[0].detach())
            )
        )
        self._listen(self.head.register_forward_hook(self._keep))

    def _keep(self, head, inputs, outputs) -> None:
        self._scores = outputs

    def read(self, samples: Sequence, most: int) -> Iterator[Classified]:
        maps, scores = self._maps, self._scores
        self._maps, self._scores = [], None
        if scores is None:
            return
        truth, ignored = self._truth(samples), self._truth(samples, "ignored_instances")
        metas = [sample.metainfo for sample in samples]
        labels = _assigned(self.head, (*scores, truth, metas, ignored))
        anchors = self.head.num_base_priors
        grids = [(len(m), *m.shape[-2:], anchors) for m in maps]
        if [label.numel() for label in labels] != [torch.Size(grid).numel() for grid in grids]:
            raise NotKnown(f"{type(self.head).__name__} does not assign one label a place")
        shaped = [label.reshape(grid) for label, grid in zip(labels, grids)]
        yield from at_places(self, maps, shaped, self.head.num_classes, most)


class _Stop(Exception):
    """Ends a loss where labels have been assigned."""


def _assigned(head: nn.Module, arguments: tuple) -> list[Tensor]:
    """The label of each place as the head's own loss assigns it, a tensor a level.

    The loss is started and stopped behind `get_targets`: what comes before differs from head to
    head, what comes after costs time and talks to other ranks.
    """
    get_targets, found = head.get_targets, []

    def stop(*args, **kwargs):
        found.append(get_targets(*args, **kwargs))
        raise _Stop

    head.get_targets = stop
    try:
        head.loss_by_feat(*arguments)
    except _Stop:
        pass
    finally:
        del head.get_targets  # the instance's; the class's is there again
    lists = [part for part in found[0] if isinstance(part, list | tuple)] if found else []
    for part in lists:
        if all(isinstance(item, Tensor) and item.dtype == torch.int64 for item in part):
            return list(part)
    raise NotKnown(f"{type(head).__name__} does not assign classes to places in get_targets")


def _loads_before_resizing(dataset) -> bool:
    """Whether the boxes of samples were resized with the picture.

    MMDetection's pipelines for validation load them after it, so that they are those of the file.
    """
    while not hasattr(dataset, "pipeline"):
        inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
        if inner[0] is None:
            return False
        dataset = inner[0]
    names = [type(step).__name__ for step in getattr(dataset.pipeline, "transforms", ())]
    loads = next((n for n, name in enumerate(names) if name.startswith("LoadAnnotations")), None)
    return loads is not None and any("Resize" in name for name in names[loads:])
