"""What a classifier layer is given at validation, and the classes that belong to it.

MCBR (`normfix_mm.analysis.metrics`) is a property of features, labels and class vectors. Where they
are found differs from framework to framework; what is done with them does not. So a framework's
package has a reader for each of its kinds of heads and puts the function that finds them in a model
into `FINDERS`; `CrossBoundaryRiskHook` knows readers alone.

A reader is attached for the time of a validation. It listens to modules by forward hooks, which
change nothing, and draws no random number but from a generator of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from normfix_mm.layers.fold import effective_weight
from normfix_mm.layers.plain import is_normalized, is_plain


class Classified(NamedTuple):
    """Features, their classes, and the vectors of all classes.

    Attributes:
        features: shape (N, D).
        labels: shape (N,), a row of `weight` each.
        weight: shape (C, D).
    """

    features: Tensor
    labels: Tensor
    weight: Tensor


class NotKnown(Exception):
    """Features or labels cannot be had; the message is the end of a sentence that says why."""


class ClassifierReader(ABC):
    """One classifier layer of a model.

    Args:
        name: of the layer in the model.
        layer: linear or a convolution; its effective weight has the class vectors as rows.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        self.name, self.layer = name, layer
        self._handles: list = []

    @property
    def weight(self) -> Tensor:
        """The weight that the layer applies, one flat row an output."""
        return effective_weight(self.layer).detach().flatten(1)

    @abstractmethod
    def attach(self, dataset) -> None:
        """Listen from now on, to a validation on this dataset; `_listen` adds a hook."""

    @abstractmethod
    def read(self, samples: Sequence, most: int) -> Iterable[Classified]:
        """What was heard since the last call, for the batch that these samples came out of.

        Args:
            samples: what the model returned, with ground truth and meta information.
            most: as many features of an image at the most.

        Raises:
            NotKnown: there are no labels, or the features cannot be told.
        """

    def detach(self) -> None:
        """Listen no more."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _listen(self, handle) -> None:
        self._handles.append(handle)


FINDERS: list[Callable[[nn.Module], list[ClassifierReader]]] = []


def readers_of(model: nn.Module) -> list[ClassifierReader]:
    """Readers of the classifiers that the imported frameworks' parts know, in a fixed order."""
    return [reader for find in FINDERS for reader in find(model)]


def finds_readers(find: Callable[[nn.Module], list[ClassifierReader]]):
    """Decorator: the model's readers of one framework are found by this function."""
    if find.__module__ not in {known.__module__ for known in FINDERS}:  # a module loaded again
        FINDERS.append(find)
    return find


def tells_classes_apart(layer, rows: int) -> bool:
    """Whether the layer is a classifier that is understood: so many rows a place, two or more.

    A convolution is, if it gives an output for each place of its input: stride 1, one group, zeros
    around.
    """
    if rows < 2:
        return False
    if isinstance(layer, nn.Linear):
        return is_normalized(layer) or is_plain(layer, nn.Linear)
    return (
        isinstance(layer, nn.Conv2d)
        and (is_normalized(layer) or is_plain(layer, nn.Conv2d))
        and layer.stride == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def chosen(wanted: Tensor, most: int) -> Tensor:
    """Indices of the true ones, shape (N,); of more than `most` some, the same at every call."""
    indices = wanted.nonzero().squeeze(1)
    if len(indices) > most:
        generator = torch.Generator().manual_seed(0)  # the run's own numbers stay as they are
        some = torch.randperm(len(indices), generator=generator)[:most]
        indices = indices[some.sort().values.to(indices.device)]
    return indices


def at_places(
    reader: ClassifierReader, maps: list[Tensor], labels: list[Tensor], classes: int, most: int
) -> Iterator[Classified]:
    """What a convolution classifies at labelled places of its input.

    It is a linear layer on the patch of its input around a place (FixNorm, appendix A.4.1). With
    several anchors a place it is several classifiers of `rows / anchors` rows each.

    Args:
        maps: inputs of the layer, shape (N, D, H, W) each.
        labels: of each map, shape (N, H, W, anchors); other numbers than 0 to `classes` − 1 are
            no class.
        most: places of an image.
    """
    anchors = labels[0].shape[-1]
    heights = [label[0].numel() for label in labels]  # places of an image times anchors
    features, found, kinds = [], [], []
    for image in range(len(maps[0])):
        flat = torch.cat([label[image].flatten() for label in labels])
        picks = chosen((flat >= 0) & (flat < classes), most)
        found.append(flat[picks])
        kinds.append(picks % anchors)
        start = 0
        for values, size in zip(maps, heights):
            places = picks[(picks >= start) & (picks < start + size)].sub(start) // anchors
            start += size
            features.append(_patches(reader.layer, values[image], places))
    x, k, kind = torch.cat(features), torch.cat(found), torch.cat(kinds)
    weight = reader.weight
    for anchor, rows in enumerate(weight.split(len(weight) // anchors)):
        of_it = kind == anchor
        yield Classified(x[of_it], k[of_it], rows)


def _patches(layer, values: Tensor, places: Tensor) -> Tensor:
    """What a convolution multiplies its weight by at these places.

    Args:
        values: one image's input, shape (D, H, W).
        places: y·W + x, shape (M,).

    Returns:
        Shape (M, D·kernel), in the order of the weight.
    """
    height, width = values.shape[1:]
    offsets = [
        torch.arange(size, device=values.device) * step - pad
        for size, step, pad in zip(layer.kernel_size, layer.dilation, layer.padding)
    ]
    y = ((places // width)[:, None] + offsets[0])[:, :, None]
    x = ((places % width)[:, None] + offsets[1])[:, None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    patches = values[:, y.clamp(0, height - 1), x.clamp(0, width - 1)] * inside
    return patches.transpose(0, 1).flatten(1)
