"""Features and labels of segmenters, for the cross-boundary risk.

The classifier is ``conv_seg`` of a decode head, or the layer that a FixNorm head names; an
auxiliary head has no part in a validation. Its features are classified at their own, coarser
places, and MMSegmentation then enlarges the scores. So a feature's label is that of the pixel in
its middle; pixels with the ignored label, and places of the padding, are none. Of each image some
places are chosen, each as likely as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from normfix_mm.engine.classified import (
    Classified,
    ClassifierReader,
    NotKnown,
    at_places,
    finds_readers,
    tells_classes_apart,
)


@finds_readers
def find(model: nn.Module) -> list[ClassifierReader]:
    heads = getattr(model, "decode_head", None)
    if not isinstance(heads, nn.Module):
        return []
    cascade = isinstance(heads, nn.ModuleList)
    named = (
        [(f"decode_head.{n}", head) for n, head in enumerate(heads)]
        if cascade
        else [("decode_head", heads)]
    )
    readers: list[ClassifierReader] = []
    for name, head in named:
        classifier = getattr(head, "classifier", "conv_seg")
        layer = getattr(head, classifier, None)
        if isinstance(layer, nn.Conv2d) and tells_classes_apart(layer, layer.out_channels):
            readers.append(PixelReader(f"{name}.{classifier}", layer, head, model))
    return readers


class PixelReader(ClassifierReader):
    """Pixels of label maps, at the places of the features."""

    def __init__(self, name: str, layer: nn.Module, head: nn.Module, model: nn.Module) -> None:
        super().__init__(name, layer)
        self.head, self.model = head, model

    def attach(self, dataset) -> None:
        self._maps: list[Tensor] = []
        self._size: tuple[int, int] | None = None
        self._listen(
            self.layer.register_forward_pre_hook(
                lambda layer, inputs: self._maps.append(inputs[0].detach())
            )
        )
        self._listen(self.model.register_forward_pre_hook(self._start, with_kwargs=True))

    def _start(self, model, args, kwargs) -> None:
        inputs = kwargs.get("inputs", args[0] if args else None)
        self._size = tuple(inputs.shape[-2:])
        self._maps = []

    def read(self, samples: Sequence, most: int) -> Iterator[Classified]:
        maps, self._maps = self._maps, []
        if not maps or self._size is None:
            return
        if any("gt_sem_seg" not in sample for sample in samples):
            raise NotKnown("the validation images have no label map")
        windows = self._windows(*self._size)
        if len(windows) != len(maps):
            raise NotKnown(f"it ran {len(maps)} times on one batch, not {len(windows)}")
        labels = [
            torch.stack([self._labels(sample, window, values) for sample in samples])
            for window, values in zip(windows, maps)
        ]
        yield from at_places(self, maps, labels, self.layer.out_channels, most)

    def _windows(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """Top, left, height and width of each piece that the network sees, as mmseg cuts them."""
        if self.model.test_cfg.get("mode", "whole") != "slide":
            return [(0, 0, height, width)]
        crop, stride = self.model.test_cfg.crop_size, self.model.test_cfg.stride
        tops, lefts = (
            [
                max(min(n * step + part, whole) - part, 0)
                for n in range(max(whole - part + step - 1, 0) // step + 1)
            ]
            for whole, part, step in zip((height, width), crop, stride)
        )
        size = min(crop[0], height), min(crop[1], width)
        return [(top, left, *size) for top in tops for left in lefts]

    def _labels(self, sample, window: tuple[int, int, int, int], values: Tensor) -> Tensor:
        """The label at each place of a window's features, −1 for none; shape (h, w, 1)."""
        truth = sample.gt_sem_seg.data.squeeze(0).to(values.device)
        rows, cols = (
            self._pixels(*window[axis::2], values.shape[2 + axis], seen, truth.shape[axis])
            for axis, seen in enumerate(sample.img_shape[:2])
        )
        labels = truth[rows.clamp(min=0)[:, None], cols.clamp(min=0)].long()
        none = (rows < 0)[:, None] | (cols < 0) | (labels == self.head.ignore_index)
        return labels.masked_fill(none, -1).unsqueeze(-1)

    def _pixels(self, start: int, length: int, places: int, seen: int, there: int) -> Tensor:
        """Along one axis, the pixel of the label map that each place lies on; −1 in the padding.

        Args:
            start, length: of the window, in pixels of the network's input.
            places: features along the window.
            seen: length of the image in the network's input, without padding.
            there: length of the label map, which is that of the image before or after resizing.
        """
        place = torch.arange(places, dtype=torch.float64)
        if self.head.align_corners:
            middle = place * (length - 1) / max(places - 1, 1)
        else:
            middle = (place + 0.5) * length / places - 0.5
        pixel = ((start + middle + 0.5) * there / seen).floor().long()
        return pixel.masked_fill(pixel >= there, -1).to(self.layer.weight.device)
