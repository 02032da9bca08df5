"""What is written again for a trace is taken only in place of the framework's own method."""

from __future__ import annotations

from torch import nn

from normfix_mm.errors import BadInput


def check_stock(part: nn.Module, kind: type, *names: str) -> None:
    """Raises BadInput if ``part`` has a method of one of these names that is not ``kind``'s."""
    for name in names:
        if getattr(type(part), name, None) is not getattr(kind, name):
            raise BadInput(
                f"{type(part).__name__} has a {name} of its own, and for ONNX there is only "
                f"{kind.__name__}'s."
            )
