"""Checkpoint files, read without running what is in them and written whole or not at all.

PyTorch's files through ``safe_load``, and safetensors.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from normfix_mm.checkpoints.safe_load import load
from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.errors import BadInput, listing, one_line, quoted

SAFETENSORS = ".safetensors"
# Where training scripts put the weights: OpenMMLab, PytorchInsight and timm; torchvision; others.
_HOLDERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
# Averages that others keep beside them, by themselves or with a counter around them.
_AVERAGES = ("ema_state_dict", "ema")
_COUNTERS = ("n_averaged", "steps")  # of torch's averages and of mmengine's
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


def read(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read a .pth, .pt, .tar or .safetensors file on the CPU.

    Returns:
        The weights, without the prefix of a wrapper around the whole model, and the metadata:
        the checkpoint's ``meta``, or the entries of a safetensors header.

    Raises:
        BadInput: Absent, cut off, with objects that would have to be unpickled, no weights, or
            some that are not finite or no ordinary numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"The checkpoint {str(path)!r} does not exist; correct the path.")
    if path.suffix == SAFETENSORS:
        weights, meta = _read_safetensors(path)
        _check_ordinary(weights, repr(str(path)))
        check_finite(weights, repr(str(path)))
        return weights, meta
    content = load(path)
    holders = _holders(content)
    held = next(iter(holders.values()), content)
    weights = {name: value for name, value in held.items() if isinstance(value, Tensor)}
    strange = next((name for name in weights if not isinstance(name, str)), None)
    if strange is not None:
        raise BadInput(
            f"{str(path)!r} holds tensors by {type(strange).__name__}, first {strange!r}, where "
            "the names of weights are strings; save the state dict of the model there."
        )
    if not weights:
        raise BadInput(
            f"{str(path)!r} holds no weights, neither by themselves nor under "
            f"{', '.join((*_HOLDERS, *_AVERAGES))}, but {listing(content, 8)}; save the state "
            "dict there."
        )
    if len(holders) > 1:
        first = next(iter(holders))
        warnings.warn(
            f"{str(path)!r} holds weights under {quoted(holders)}; those under {first!r} are "
            "taken, though averaged ones (ema) are mostly what was evaluated: to have others, save "
            "them to a file of their own.",
            stacklevel=2,
        )
    _check_ordinary(weights, repr(str(path)))
    check_finite(weights, repr(str(path)))
    meta = content.get("meta")
    return _unwrapped(weights), dict(meta) if isinstance(meta, Mapping) else {}


def _holders(content: Mapping) -> dict[str, Mapping]:
    """What holds weights, by its key; the first is what is taken."""
    found = {k: content[k] for k in _HOLDERS if isinstance(content.get(k), Mapping)}
    if found or not any(isinstance(value, Tensor) for value in content.values()):
        averages = ((k, _averages(content, k)) for k in _AVERAGES)
        found |= {k: held for k, held in averages if held}
    return found


def _averages(content: Mapping, key: str) -> Mapping:
    """Averaged weights under this key, empty if there are none.

    What mmengine's EMAHook saves under ``ema_state_dict`` is no average: they are the weights of
    which it saves the averages under ``state_dict``.
    """
    held = content.get(key)
    if not isinstance(held, Mapping) or ("steps" in held and "state_dict" in content):
        return {}
    inner = next((held[k] for k in ("module", *_HOLDERS) if isinstance(held.get(k), Mapping)), held)
    return inner if any(isinstance(value, Tensor) for value in inner.values()) else {}


def _check_ordinary(weights: Mapping[str, Tensor], named: str) -> None:
    """Refuse what a layer could not take or would take for other numbers, as quantized weights."""
    for name, tensor in weights.items():
        kind = None
        is_weight = name.rpartition(".")[2] == "weight"
        if tensor.is_quantized or (is_weight and not tensor.is_floating_point()):
            kind = f"numbers of {tensor.dtype}, as quantized or complex networks have"
        elif tensor.is_meta or tensor.layout is not torch.strided:
            kind = "no values (meta)" if tensor.is_meta else f"a layout of {tensor.layout}"
        if kind:
            raise BadInput(
                f"The checkpoint {named} has {kind}, in {name!r}; save it with ordinary "
                "floating-point weights."
            )


def check_finite(content: Mapping, named: str) -> None:
    """Refuse tensors with NaN or infinity, in dictionaries and lists of any depth.

    Args:
        named: the file, for the message.

    Raises:
        BadInput: With the name of the first.
    """
    for name, tensor in _tensors(content, ""):
        numbers = tensor.is_floating_point() or tensor.is_complex()
        if not numbers or tensor.is_meta or tensor.layout is not torch.strided:
            continue
        values = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no isfinite
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise BadInput(
                f"The checkpoint {named} holds {bad} values of {tensor.numel()} in {name!r} that "
                "are not finite (NaN or infinity), so the run that wrote it had diverged: go back "
                "to an earlier checkpoint, and lower the learning rate or clip the gradients."
            )


def _tensors(node, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _tensors(value, f"{name}.{index}" if name else str(index))


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

    header = {key: json.dumps(_json(value)) for key, value in meta.items()}
    # A tensor that shares memory with another, which safetensors refuses, becomes its own.
    state = {name: t.detach().clone().contiguous() for name, t in state.items()}
    try:
        save_file(state, path, header)
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from None


def _json(node):
    """Numpy's numbers and arrays as lists and numbers; whatever else JSON does not have as text."""
    if isinstance(node, Mapping):
        return {str(key): _json(value) for key, value in node.items()}
    if isinstance(node, (list, tuple, set, frozenset)):
        return [_json(value) for value in node]
    if hasattr(node, "tolist"):
        return node.tolist()
    return node if node is None or isinstance(node, (bool, int, float, str)) else str(node)


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
    """Without a prefix that every key has, and without the counter that an average adds."""
    averaged = {name: value for name, value in weights.items() if name not in _COUNTERS}
    if all(name.startswith(_WRAPPERS) for name in averaged):
        weights = averaged
    for wrapper in _WRAPPERS * 2:  # in either order
        if all(name.startswith(wrapper) for name in weights):
            weights = {name.removeprefix(wrapper): value for name, value in weights.items()}
    return weights
