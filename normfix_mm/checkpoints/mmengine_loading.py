"""mmengine's way of loading checkpoints, replaced by ``safe_load``.

mmengine (and the maintained fork, which tries ``weights_only=True`` first) unpickles a file that
asks for more than data, and what it downloads in any case; and a run that is resumed executes the
text under ``meta["config"]``, which checkpoints of 2021 carry. Importing this module registers
loaders that do neither, for every address that mmengine knows: in our commands, and in every other
program that imports ``normfix_mm.engine``, as the ``custom_imports`` of a config do.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _process_mmcls_checkpoint

from normfix_mm.checkpoints import addresses
from normfix_mm.checkpoints.safe_load import load
from normfix_mm.errors import BadInput


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """A checkpoint file."""
    return _without_program(load(os.path.expanduser(filename), None, map_location))


def load_from_address(filename: str, map_location: Any = None) -> dict:
    """``torchvision://resnet50``, ``https://…`` and the like."""
    content = load_from_local(str(addresses.fetched(filename)), map_location)
    if filename.startswith(addresses.MMCLS):
        return _process_mmcls_checkpoint(content)
    return content


def load_from_ceph(filename: str, map_location: Any = None) -> dict:
    """A file in an object store, as mmengine's own loader fetches it."""
    backend = get_file_backend(filename, backend_args=dict(backend="petrel"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.pth"
        file.write_bytes(backend.get(filename))
        return load_from_local(str(file), map_location)


def load_from_pavi(filename: str, map_location: Any = None) -> dict:
    """Refused: its client is not to be had any more."""
    raise BadInput(f"{filename!r} cannot be loaded; give a local file.")


def _without_program(content: dict) -> dict:
    meta = content.get("meta")
    if isinstance(meta, dict) and "config" in meta:
        return content | dict(meta={key: meta[key] for key in meta if key != "config"})
    return content


def _called(name: str) -> Callable[[str, Any], dict]:
    """`load_from_address` by the name of the loader that it replaces: mmengine prints that."""

    def loader(filename: str, map_location: Any = None) -> dict:
        return load_from_address(filename, map_location)

    loader.__name__ = f"load_from_{name}"
    return loader


for prefixes, loader in (
    ("", load_from_local),
    (addresses.WEB, _called("http")),
    (addresses.TORCHVISION, _called("torchvision")),
    (addresses.OPENMMLAB, _called("openmmlab")),
    (addresses.MMCLS, _called("mmcls")),
    ((r"(\S+\:)?s3://", r"(\S+\:)?petrel://"), load_from_ceph),
    ("pavi://", load_from_pavi),
):
    CheckpointLoader.register_scheme(prefixes, loader, force=True)
