"""Convolutions that pad as TensorFlow does, made plain: those of EfficientNets, for example.

mmcv's ``Conv2dAdaptivePadding`` and timm's ``Conv2dSame`` compute how much to pad from the input's
size and then convolve. Written with the padding in a hook, such a layer is a plain ``nn.Conv2d``
with the same parameters, which can be normalized and folded like any other.
"""

import math

from torch import Tensor, nn
from torch.nn import functional as F

SAME_PADDING = {"Conv2dAdaptivePadding", "Conv2dSame"}


def plain_same_padding(module: nn.Module) -> None:
    """Make every convolution of ``SAME_PADDING`` in `module` plain, in place, with its function."""
    for layer in module.modules():
        if type(layer).__name__ in SAME_PADDING and type(layer).__bases__ == (nn.Conv2d,):
            layer.__class__ = nn.Conv2d
            layer.register_forward_pre_hook(pad_same)


def pad_same(layer: nn.Conv2d, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """The input, padded so that the output has ceil(size / stride) pixels.

    Of an odd number of pixels the end gets one more than the beginning.
    """
    sizes = inputs[0].shape[-2:]
    amounts = []
    for size, kernel, stride, dilation in zip(
        sizes, layer.kernel_size, layer.stride, layer.dilation
    ):
        needed = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1
        missing = max(needed - size, 0)
        amounts = [missing // 2, missing - missing // 2, *amounts]
    return (F.pad(inputs[0], amounts),) if any(amounts) else inputs
