"""OCNet.pytorch's names and values, to those of ``OCHead`` and its auxiliary ``FCNHead``.

Its norm is InPlaceABN, which applies |gamma| + 1e-5, and its convolutions before a norm mostly have
a bias b: BN(y + b) with the running mean m is BN(y) with m - b.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]
Names = tuple[tuple[str, str], ...]


def _layer(old: str, new: str) -> Names:
    """A convolution and its norm, numbered in the source."""
    return (rf"{old}\.0\.(.*)", rf"{new}.conv.\1"), (rf"{old}\.1\.(.*)", rf"{new}.bn.\1")


def _context(old: str, new: str) -> Names:
    return (
        *_layer(rf"{old}\.f_key", f"{new}.f_key"),
        (rf"{old}\.(f_value|W)\.(.*)", rf"{new}.\1.\2"),
    )


_HEAD = "decode_head.context"
_BASE = (
    *_layer("context", "decode_head.bottleneck"),
    *_context(r"context\.2\.stages\.0", f"{_HEAD}.context"),
    *_layer(r"context\.2\.conv_bn_dropout", f"{_HEAD}.fuse"),
)
_ASP = (
    *_layer(r"context\.2\.context", f"{_HEAD}.context.0"),
    *_context(r"context\.2\.context\.2\.stages\.0", f"{_HEAD}.context.1"),
    *_layer(r"context\.2\.context\.2\.conv_bn_dropout", f"{_HEAD}.context.2"),
    *(
        name
        for i in range(4)
        for name in _layer(rf"context\.2\.conv{i + 2}", f"{_HEAD}.branches.{i}")
    ),
)
_PYRAMID = (
    *_layer("layer5", "decode_head.bottleneck"),
    *(
        name
        for i in range(4)
        for name in _context(rf"context\.stages\.{i}", f"{_HEAD}.contexts.{i}")
    ),
    *_layer(r"context\.up_dr", f"{_HEAD}.widen"),
    *_layer(r"context\.conv_bn_dropout", f"{_HEAD}.fuse"),
)
HEADS: Names = (
    *_BASE,
    *_ASP,
    *_PYRAMID,
    (r"cls\.(.*)", r"decode_head.conv_seg.\1"),
    *_layer("dsn", "auxiliary_head.convs.0"),
    (r"dsn\.3\.(.*)", r"auxiliary_head.conv_seg.\1"),
)
LEFT: Names = (
    (r".*\.f_query\..*", "the same module as f_key"),
    (r".*\.0\.bias", "folded into the mean of the norm behind"),
)
NOTE = (
    "gamma of each norm -> |gamma| + 1e-5, as InPlaceABN applies it; biases before a norm folded "
    "into its mean"
)


def is_ocnet(state: State) -> bool:
    """Whether these are an OCNet's names: the deep stem's and a head's."""
    stem = "conv3.weight" in state and "bn3.weight" in state
    return stem and any(key.startswith(("context.", "dsn.")) for key in state)


def plain_norms(state: State) -> dict[str, Tensor]:
    """The state dict with values for BN and for convolutions without the biases before it."""
    values = dict(state)
    for key in state:
        name = key.removesuffix(".running_mean")
        if name == key:
            continue
        values[f"{name}.weight"] = state[f"{name}.weight"].abs() + 1e-5
        bias = state.get(f"{name.removesuffix('.1')}.0.bias") if name.endswith(".1") else None
        if bias is not None:
            values[key] = state[key] - bias
    return values
