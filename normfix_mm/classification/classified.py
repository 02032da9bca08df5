"""Features and labels of classifiers of images, for the cross-boundary risk.

The classifier is the linear layer of the head with one output a class (``head.fc`` of LinearClsHead
and ours); its input is the image's feature, and the label is the image's class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from normfix_mm.engine.classified import (
    Classified,
    ClassifierReader,
    NotKnown,
    finds_readers,
    tells_classes_apart,
)


@finds_readers
def find(model: nn.Module) -> list[ClassifierReader]:
    head = getattr(model, "head", None)
    classes = getattr(head, "num_classes", None)
    if not isinstance(head, nn.Module) or not isinstance(classes, int):
        return []
    # Of several, the last one: those before it, as StackedLinearClsHead's, feed it.
    layers = [
        (name, layer)
        for name, layer in head.named_modules(prefix="head")
        if getattr(layer, "out_features", None) == classes and tells_classes_apart(layer, classes)
    ]
    return [ImageReader(*layers[-1])] if layers else []


class ImageReader(ClassifierReader):
    """One feature an image."""

    def attach(self, dataset) -> None:
        self._heard: list[torch.Tensor] = []
        self._listen(
            self.layer.register_forward_pre_hook(
                lambda layer, inputs: self._heard.append(inputs[0].detach())
            )
        )

    def read(self, samples: Sequence, most: int) -> Iterator[Classified]:
        heard, self._heard = self._heard, []
        if not heard:
            return
        labels = [sample.get("gt_label") for sample in samples]
        if any(label is None for label in labels):
            raise NotKnown("the validation images have no label")
        if any(label.numel() != 1 for label in labels):
            raise NotKnown("an image has several labels, or none")
        features = heard[-1]
        yield Classified(features, torch.cat(labels).to(features.device), self.weight)
