"""The model that a checkpoint is meant for, or its part, and how it runs beside the source."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from normfix_mm.convert.convert import Conversion
from normfix_mm.errors import BadInput
from normfix_mm.layers.fold import fold


def part_of(model: nn.Module, part: str | None) -> nn.Module:
    """The submodule of this name, or the model itself.

    Raises:
        BadInput: There is none.
    """
    if part is None:
        return model
    try:
        return model.get_submodule(part)
    except AttributeError:
        parts = ", ".join(name for name, _ in model.named_children())
        raise BadInput(
            f"The model of the config has no part {part!r} but {parts}; correct --part."
        ) from None


def compare(conversion: Conversion, model: nn.Module, part: str | None, path: str) -> list[str]:
    """Lines that say how far the target's backbone is from the source's, on an image file.

    Args:
        model: the whole model; its data_preprocessor normalizes the image.
        part: of the model, to which the conversion's names are relative.

    Raises:
        BadInput: Nothing to compare, or no such image.
    """
    import mmcv

    if part not in (None, "backbone"):
        raise BadInput("--image compares backbones; leave it out for other parts.")
    if conversion.plain is None:
        raise BadInput(
            "--image has nothing to compare with, since the source's weights cannot be folded "
            "without their config; leave it out."
        )
    pixels = mmcv.imread(path) if os.path.isfile(path) else None
    if pixels is None:
        raise BadInput(f"The image {path!r} cannot be read; correct the path of --image.")
    data = dict(inputs=[torch.from_numpy(pixels).permute(2, 0, 1)], data_samples=None)
    states = conversion.plain, conversion.state
    if part is None:
        states = (_below(state, "backbone.") for state in states)
    inputs = model.data_preprocessor(data)["inputs"]
    try:
        distances = deviations(model.backbone, *states, inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BadInput(
            f"The image {path!r} of {pixels.shape[1]}x{pixels.shape[0]} pixels leaves one at the "
            "end of the backbone, too few for BN's statistics; give a larger one with --image."
        ) from None
    return [
        "compared on the image: the config's backbone with the source's weights made plain, and "
        "with the written ones in its own layers; strides, pooling and preprocessing are the "
        "config's in both, so that it measures the form of the weights, not where they come from",
    ] + [
        f"relative change of the backbone's outputs on the image, {mode}: "
        + ", ".join(f"{distance:.2g}" for distance in each)
        for mode, each in zip(("evaluation mode", "BN in training mode"), distances, strict=True)
    ]


@torch.no_grad()
def deviations(
    target: nn.Module, plain: Mapping[str, Tensor], state: Mapping[str, Tensor], image: Tensor
) -> list[list[float]]:
    """Relative L2 distance of each output, between plain layers and the target's own.

    Args:
        target: a module that takes the image and returns a tensor or several; it is loaded.
        plain: the source's function in plain weights.
        state: the weights for the target's layers.
        image: shape (1, 3, height, width), normalized.

    Returns:
        The distances in evaluation mode, and with BN normalizing by the image's own statistics.
    """
    source = fold(target)
    source.load_state_dict(plain, strict=False)
    target.load_state_dict(state, strict=False)
    found = []
    for training in (False, True):
        outputs = []
        for model in (source, target):
            for module in model.modules():
                module.training = training  # train() would obey norm_eval and leave BN as it is
            out = model(image)
            outputs.append([out] if isinstance(out, Tensor) else list(out))
        pairs = zip(*outputs, strict=True)
        found.append([float((b - a).norm() / a.norm()) for a, b in pairs])
    return found


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): w for n, w in state.items() if n.startswith(prefix)}
