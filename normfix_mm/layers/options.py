"""What a numeric option may be: a real number, not a word that looks like one, nor a truth value.

YAML reads `1e-5` as a word, and True is 1 for Python: both would train something else.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

from torch import Tensor

from normfix_mm.errors import BadInput


def as_number(value: Any) -> float:
    """The number, NaN for what is none."""
    if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
        return float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return float("nan")
    return float(value)


def is_positive(value: Any) -> bool:
    """Whether it is a finite number > 0."""
    return 0 < as_number(value) < float("inf")


def truth(name: str, value: Any) -> bool:
    """The value of an option that must be True or False.

    Raises:
        BadInput: for anything else, words as 'false' among it.
    """
    if not isinstance(value, bool):
        raise BadInput(f"Invalid {name}: {value!r}; give True or False.")
    return value
