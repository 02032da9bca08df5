"""Checkpoint files, read without running what is in them and written whole or not at all.

``torch.load(weights_only=True)`` and safetensors only. What old checkpoints carry beside their
weights (logs of mmengine, numpy scalars, the arguments of the training script) is on a list of
harmless types; anything else is refused and named, never unpickled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.errors import BadInput, one_line

SAFETENSORS = ".safetensors"
# Where training scripts put the weights: OpenMMLab, PytorchInsight and timm; torchvision; others.
_HOLDERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


def read(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read a .pth, .pt, .tar or .safetensors file on the CPU.

    Returns:
        The weights, without the prefix of a wrapper around the whole model, and the metadata:
        the checkpoint's ``meta``, or the entries of a safetensors header.

    Raises:
        BadInput: Absent, cut off, with objects that would have to be unpickled, or no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"The checkpoint {str(path)!r} does not exist; correct the path.")
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    content = load(path)
    held = next((content[k] for k in _HOLDERS if isinstance(content.get(k), Mapping)), content)
    weights = {name: value for name, value in held.items() if isinstance(value, Tensor)}
    if not weights:
        raise BadInput(
            f"{str(path)!r} holds no weights, neither by themselves nor under "
            f"{', '.join(_HOLDERS)}, but {', '.join(map(str, list(content)[:8])) or 'nothing'}; "
            "save the state dict there."
        )
    meta = content.get("meta")
    return _unwrapped(weights), dict(meta) if isinstance(meta, Mapping) else {}


def write(path: str | Path, state: Mapping[str, Tensor], meta: Mapping) -> None:
    """Write weights and metadata to a file beside `path`, then put it in its place.

    Raises:
        BadInput: The folder cannot be made or written to.
    """
    path = Path(path)
    try:
        with replacing(path) as part:
            if path.suffix == SAFETENSORS:
                _write_safetensors(part, state, meta)
            else:
                torch.save(dict(meta=dict(meta), state_dict=dict(state)), part)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as the latter
        raise BadInput(
            f"{str(path)!r} cannot be written ({one_line(error, 120)}); give a path in a folder "
            "that can be made and has room."
        ) from None


def load(path: str | Path, source: str | None = None) -> dict:
    """All that a .pth file holds, on the CPU.

    Args:
        source: the option that named the file, for the messages.

    Raises:
        BadInput: cut off, with objects that would have to be unpickled, or no dictionary.
    """
    named = f"{str(path)!r} of {source}" if source else repr(str(path))
    with contextlib.suppress(ImportError):  # without mmengine there are no logs of its to read
        from normfix_mm.checkpoints.stacks import allow_history_buffers

        allow_history_buffers()  # each time: the fork's own loading takes its names off the list
    # A bag of attributes; timm and torchvision's reference scripts keep their options in one.
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each have errors of their own
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise BadInput(
                f"The checkpoint {named} asks for the Python object `{refused[1]}`, which could "
                "run code, so it was not loaded; where the file was made, or on a machine that you "
                "can lose, save its weights alone: torch.save({'state_dict': model.state_dict()}, "
                "FILE)."
            ) from None
        raise BadInput(
            f"The checkpoint {named} cannot be read ({one_line(error, 120)}); it is no "
            "checkpoint of PyTorch, or was cut off while being written or copied: fetch it again "
            "or use an earlier one."
        ) from None
    if not isinstance(content, dict):
        raise BadInput(
            f"{named} holds a {type(content).__name__}, not a checkpoint; save the state dict "
            "instead of the module."
        )
    return content


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, "pt", device="cpu") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read as safetensors ({one_line(error, 120)}); it was "
            "probably cut off: fetch it again."
        ) from None
    meta = {}
    for key, text in header.items():
        try:
            meta[key] = json.loads(text)
        except ValueError:  # other writers' entries are plain text
            meta[key] = text
    return _unwrapped(weights), meta


def _write_safetensors(path: Path, state: Mapping[str, Tensor], meta: Mapping) -> None:
    safetensors = _safetensors()
    from safetensors.torch import save_file

    header = {key: json.dumps(value) for key, value in meta.items()}
    # A tensor that shares memory with another, which safetensors refuses, becomes its own.
    state = {name: t.detach().clone().contiguous() for name, t in state.items()}
    try:
        save_file(state, path, header)
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from None


def _safetensors():
    try:
        import safetensors
    except ImportError:
        raise BadInput(
            "A .safetensors file needs the package safetensors; install it with "
            "`pip install 'normfix-mm[transfer]'`."
        ) from None
    return safetensors


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without a prefix that every key has."""
    for wrapper in _WRAPPERS * 2:  # in either order
        if all(name.startswith(wrapper) for name in weights):
            weights = {name.removeprefix(wrapper): value for name, value in weights.items()}
    return weights
