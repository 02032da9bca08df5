"""Do a segmenter's heads fit its classes, its losses and the crops that it is trained on?

The network is run on a batch of the training's size without computing anything, on torch's meta
device. What cannot be run there, as an operator without such a mode or a head with arguments of its
own, is left to the training.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from torch import nn

from normfix_mm.datasets.config import datasets, transforms_named
from normfix_mm.errors import BadInput, one_line
from normfix_mm.segmentation.losses import WeightedCrossEntropyLoss

_ROOMY = (1024, 1024)  # a size that most networks take
_NO_META_FORM = re.compile("meta tensor|device meta")


def heads_of(model: nn.Module) -> dict[str, BaseDecodeHead]:
    """Decode heads and auxiliary heads by their names in the model."""
    return {n: m for n, m in model.named_modules() if isinstance(m, BaseDecodeHead)}


def check_losses(model: nn.Module) -> None:
    """Compare class weights and number of outputs of each head with its losses.

    Raises:
        BadInput: At the first loss that cannot be computed, or that nothing is learned from.
    """
    for name, head in heads_of(model).items():
        losses = getattr(head, "loss_decode", None)
        for loss in losses if isinstance(losses, nn.ModuleList) else [losses]:
            ours = isinstance(loss, WeightedCrossEntropyLoss)
            softmax = isinstance(loss, CrossEntropyLoss) and not (loss.use_sigmoid or loss.use_mask)
            if head.out_channels == 1 and (ours or softmax):
                raise BadInput(
                    f"model.{name} has one output, of which a softmax is always 1: its "
                    f"{type(loss).__name__} learns nothing; take two outputs, or "
                    "dict(type='CrossEntropyLoss', use_sigmoid=True)."
                )
            weights = getattr(loss, "class_weight", None)
            if (ours or softmax) and weights is not None and len(weights) != head.out_channels:
                raise BadInput(
                    f"model.{name} has {head.out_channels} classes, but its loss has "
                    f"{len(weights)} class weights; give "
                    f"model.{name}.loss_decode.class_weight one number for each class, or None."
                )


def check_crop(cfg, model: nn.Module) -> None:
    """Run a batch of the training's size through the network, without computing.

    Raises:
        BadInput: The network fails on it, or crops are larger than what they are padded to.
    """
    if not hasattr(model, "encode_decode"):
        return
    size = tuple(getattr(model.data_preprocessor, "size", None) or ())
    for dataset in datasets(cfg.train_dataloader.dataset):
        for step in transforms_named(dataset, "RandomCrop"):
            crop = _pair(step.get("crop_size"))
            if size and crop and (crop[0] > size[0] or crop[1] > size[1]):
                raise BadInput(
                    f"The crops of {crop[0]}x{crop[1]} pixels do not fit in the "
                    f"{size[0]}x{size[1]} that smaller ones are padded to; set "
                    "model.data_preprocessor.size to RandomCrop's crop_size."
                )
            size = size or crop
    size = size or _ROOMY
    batch = _batch(cfg, model)
    channels = cfg.model.get("backbone", {}).get("in_channels", 3)
    error = _failure(model, (batch, channels, *size))
    if error is None:
        return
    if batch == 1 and not _failure(model, (2, channels, *size)):
        raise BadInput(
            f"The network cannot be trained on one image at a time ({one_line(error, 200)}); set "
            "train_dataloader.batch_size to 2 or more."
        )
    if not _failure(model, (batch, channels, *_ROOMY)):
        raise BadInput(
            f"The network cannot be trained on crops of {size[0]}x{size[1]} pixels "
            f"({one_line(error, 200)}); enlarge data_preprocessor.size and the crop_size of the "
            "pipeline."
        )
    raise BadInput(
        f"The network cannot be run on {size[0]}x{size[1]} pixels ({one_line(error, 200)}); make "
        "in_channels and in_index of the heads agree with what the backbone gives, and "
        "data_preprocessor.size with the image size of a backbone that has one."
    )


def _pair(size: int | Sequence[int] | None) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size or ())


def _batch(cfg: Mapping, model: nn.Module) -> int:
    """Images that the norms of one process see; with SyncBN those of the others as well."""
    together = cfg.get("sync_bn") or any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    return 2 if together else cfg.train_dataloader.get("batch_size") or 2


def _failure(model: nn.Module, shape: tuple[int, ...]) -> Exception | None:
    """What goes wrong in training mode on images of this shape; None also if unknown."""
    network = copy.deepcopy(model).to("meta")
    network.train()
    images = torch.empty(shape, device="meta")
    try:
        network(images, mode="tensor")
        if network.with_auxiliary_head:
            auxiliary = network.auxiliary_head
            for head in auxiliary if isinstance(auxiliary, nn.ModuleList) else [auxiliary]:
                head(network.extract_feat(images))
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        # What has no meta form raises NotImplementedError or, in mmcv's operators, says so.
        unknown = isinstance(error, NotImplementedError) or _NO_META_FORM.search(str(error))
        return None if unknown else error
    except (AttributeError, KeyError, TypeError):  # a head that is called in a way of its own
        return None
    return None
