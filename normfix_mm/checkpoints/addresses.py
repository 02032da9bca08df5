"""Weights that a config names by an address: the file that they are, fetched once.

``torchvision://resnet50``, ``open-mmlab://…``, ``mmcls://…`` and web addresses, in mmengine's names
for them. They end as files in the cache that PyTorch uses as well (``$TORCH_HOME``), and are read
like any other file. A name that carries a hash (``resnet50-0676ba61.pth``), or is of mmengine's
lists, is kept as it is; to others, as ``pytorch_model.bin``, which many web addresses end in, one
of the address is added.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from pathlib import Path
from urllib.parse import urlparse

import torch
from filelock import FileLock

from normfix_mm.errors import BadInput, one_line

WEB = ("http://", "https://")
TORCHVISION = ("torchvision://", "modelzoo://")
OPENMMLAB = ("open-mmlab://", "openmmlab://")
MMCLS = ("mmcls://",)
KNOWN = (*WEB, *TORCHVISION, *OPENMMLAB, *MMCLS)
_PATIENCE = 30  # seconds without a byte
_HASHED = re.compile(r"-(?!20\d{6}\.)[0-9a-f]{8,}\.\w+$")  # a date is none


def fetched(address: str, source: str | None = None) -> Path:
    """The local file of an address, downloaded unless it is in the cache.

    Args:
        source: the option that named it, for the messages.

    Raises:
        BadInput: Nothing has that name, or it is not in the cache and cannot be downloaded.
    """
    place = _place(address)
    if not place.startswith(WEB):
        return Path(place)
    name = os.path.basename(urlparse(place).path)
    if not name:
        raise BadInput(f"The address {address!r} names no file.")
    renamed = ""
    if place == address and not _HASHED.search(name):
        stem, suffix = os.path.splitext(name)
        name = f"{stem}-{hashlib.sha256(place.encode()).hexdigest()[:8]}{suffix}"
        renamed = f" as {name!r}"
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / name
    if file.is_file():
        return file
    waited = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):  # several processes of a run, one download
            if not file.is_file():
                print(f"downloading {place} to {file}", flush=True)
                torch.hub.download_url_to_file(place, str(file), progress=False)
    except (OSError, ValueError) as error:  # URLError and HTTPError are the former
        of = f" of {source}" if source else ""
        raise BadInput(
            f"The weights {address!r}{of} are not in the cache {str(folder)!r} and cannot be "
            f"downloaded ({one_line(error, 120)}): put {place} there{renamed} from a machine that "
            "has a network, or name a local file, or none (init_cfg=None) to start from random "
            "weights."
        ) from None
    finally:
        socket.setdefaulttimeout(waited)
    return file


def _place(address: str) -> str:
    """The web address, or the local file, that mmengine's lists give for a name."""
    from mmengine.runner import checkpoint

    scheme, _, name = address.partition("://")
    scheme += "://"
    if scheme in WEB:
        return address
    if scheme in TORCHVISION:
        try:
            known = checkpoint.get_torchvision_models()
        except ImportError as error:
            raise BadInput(
                f"The weights {address!r} need torchvision, which does not load "
                f"({one_line(error, 120)}): install the one that fits your torch, or run "
                "`make setup`."
            ) from None
    elif scheme in OPENMMLAB:
        known = checkpoint.get_external_models()
        name = checkpoint.get_deprecated_model_names().get(name, name)
    else:
        known = checkpoint.get_mmcls_models()
    if name not in known:
        raise BadInput(f"There are no weights {address!r}; correct the name.")
    place = known[name]
    if place.startswith(WEB):
        return place
    return os.path.join(checkpoint._get_mmengine_home(), place)  # of the user's own list
