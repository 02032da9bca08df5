"""Do weights that fit by name and shape make most of a backbone, and the network they are of?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from normfix_mm.convert.key_table import Row
from normfix_mm.convert.sources import Source
from normfix_mm.errors import BadInput, quoted


def check_backbone(
    target: nn.Module, part: str | None, taken: set[str], rows: Iterable[Row]
) -> None:
    """Refuse weights that leave most of the backbone as it is initialized.

    Args:
        target: the model, or its part.
        taken: names of the weights that are.
        rows: of all keys; a file with nothing for the backbone may be meant for the rest.

    Raises:
        BadInput: With the first keys of either side that have no counterpart.
    """
    below = {None: "backbone.", "backbone": ""}.get(part)
    if below is None or not any((row.new or "").startswith(below) for row in rows if row.old):
        return
    own = {n for n, module in target.named_modules() if hasattr(module, "normalized_weight")}
    names = [
        name
        for name in target.state_dict()
        if name.startswith(below)
        and not name.endswith("num_batches_tracked")
        and not (name.endswith(".g") and name[:-2] in own)
    ]
    absent = [name for name in names if name not in taken]
    if 2 * len(absent) > len(names):
        left = [row.old for row in rows if row.old and row.new not in taken]
        raise BadInput(
            f"{len(absent)} of {len(names)} keys of the model's backbone would keep their "
            f"initialization, first {quoted(absent, 2)}, as the checkpoint has none of their "
            f"name and shape (it has besides {quoted(left, 2)}): it is of another network; "
            "correct the backbone in the config, or --source."
        )


def other_strides(target: nn.Module, source: Source, keys: Iterable[str]) -> str | None:
    """The warning about bottlenecks that stride in another convolution than the source's do.

    Raises:
        BadInput: The same, where the file has a classifier: Caffe's weights have the names of
            torchvision's, and come without one.
    """
    first = next((n for n, m in target.named_modules() if _strides_first(m)), None)
    if source.stride != "conv2" or first is None:
        return None
    text = (
        f"the bottlenecks of {source.title} stride in their 3x3 convolution, the model's in the "
        f"1x1 before it (style='caffe', first {first!r}): every key matches and the network is "
        "another function; set style='pytorch' in the config"
    )
    if "fc.weight" in keys:
        raise BadInput(f"{text[0].upper()}{text[1:]}, or allow it with --allow-mismatch.")
    return f"WARNING: unless these weights are Caffe's, {text}"


def _strides_first(module: nn.Module) -> bool:
    parts: Mapping[str, nn.Module] = dict(module.named_children())
    strides = [getattr(parts.get(f"conv{k}"), "stride", None) for k in (1, 2, 3)]
    return None not in strides and strides[0] != (1, 1) and strides[1] == (1, 1)
