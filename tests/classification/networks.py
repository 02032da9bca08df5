"""The papers' networks: MMPretrain's name, features before the classifier, and published size."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmpretrain.registry import MODELS
from torch import nn

import normfix_mm.classification  # noqa: F401  registers what MMPretrain lacks


@dataclass(frozen=True)
class Network:
    """A network of a paper.

    Attributes:
        millions: its parameters with classifier, as published, with the digits published.
        published: who says so.
        plain: how many of its convolutions WS leaves alone: depthwise, grouped 1×1, squeezes.
    """

    kind: str
    options: dict
    features: int
    millions: str
    published: str
    convolutions: int
    plain: int = 0
    squeezes: int = 0
    classes: int = 1000
    more: dict = field(default_factory=dict)

    def build(self, normalize: dict | list | None = None) -> nn.Module:
        """The stock backbone, or the normalized one."""
        config = dict(type=self.kind, **self.options)
        if normalize is not None:
            config |= dict(type=f"Normalized{self.kind}", normalize=normalize)
        return MODELS.build(config)


NETWORKS = {
    "r50": Network("ResNet", dict(depth=50), 2048, "25.56", "PytorchInsight", 53),
    "r101": Network("ResNet", dict(depth=101), 2048, "44.55", "PytorchInsight", 104),
    "r50d": Network("ResNetV1d", dict(depth=50), 2048, "25.6", "FixNorm, Table 2", 55),
    "x50": Network("ResNeXt", dict(depth=50), 2048, "25.03", "torchvision", 53),
    "x101": Network("ResNeXt", dict(depth=101), 2048, "44.18", "timm", 104),
    "ser101": Network(
        "SEResNet", dict(depth=101), 2048, "49.33", "PytorchInsight", 170, 66, squeezes=66
    ),
    "densenet201": Network("DenseNet", dict(arch="201"), 1920, "20.01", "torchvision", 200),
    # One stem, and 16 units of a depthwise and two 1×1, of which the very first is not grouped.
    "shufflenetv1": Network("ShuffleNetV1", dict(groups=8), 1536, "2.43", "by hand", 49, 47),
    "shufflenetv2": Network("ShuffleNetV2", {}, 1024, "2.28", "PytorchInsight", 56, 19),
    "mobilenetv1": Network("MobileNetV1", {}, 1024, "4.2", "its paper, Table 8", 27, 13),
    "mobilenetv2": Network("MobileNetV2", {}, 1280, "3.5", "FixNorm, Table 2", 52, 17),
    "mobilenetv2x1.12": Network(
        "SEMobileNetV2", dict(widen_factor=1.12), 1433, "4.7", "FixNorm, Table 2", 86, 51, 34
    ),
    "mobilenetv2x1.54": Network(
        # The paper says 8.0; how it rounds channels it does not (see the module).
        "SEMobileNetV2", dict(widen_factor=1.54), 1971, "8.1", "see the module", 86, 51, 34
    ),
    "r50d-tricks": Network(
        "SEResNetD", dict(depth=50), 2048, "28.1", "FixNorm, Table 2", 87, 32, squeezes=32
    ),
    "efficientnet-b0": Network(
        "EfficientNet", dict(arch="b0"), 1280, "5.3", "FixNorm, Table 2", 81, 48, squeezes=32
    ),
    "efficientnet-b1": Network(
        "EfficientNet", dict(arch="b1"), 1280, "7.8", "FixNorm, Table 2", 115, 69, squeezes=46
    ),
    "x29": Network("ResNeXtCIFAR", {}, 1024, "68.1", "ResNeXt, Table 7", 31, classes=10),
    "se-x29": Network(
        # 68.16 and 18 layers of squeezes: 3 × 2 × (256² + 512² + 1024²) / 16 weights, and biases.
        "SEResNeXtCIFAR", {}, 1024, "68.68", "by hand", 49, 18, squeezes=18, classes=10
    ),
}  # fmt: skip
