"""A trained model out of this package: stock config, stock checkpoint, verified before they exist.

    OUT/<config's name>.py        `stock_config` of CONFIG, flat
    OUT/<config's name>.pth       `fold` of the model: state_dict and meta, nothing of the training
    OUT/<config's name>.onnx      on request, the whole of it: `to_onnx`

The weights are those under `state_dict`: with an EMAHook the averaged ones, since mmengine swaps
them in when it saves. It averages weights and gains separately, and validates with these averages,
so that the folded network is the one that was validated.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import time
import warnings
from inspect import ismodule
from pathlib import Path

import mmengine
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn

import normfix_mm
from normfix_mm.checkpoints import files
from normfix_mm.checkpoints.forms import check_forms
from normfix_mm.checkpoints.trained_settings import other_settings_sentence, other_weights
from normfix_mm.errors import BadInput, listing, one_line
from normfix_mm.export.same_network import compare
from normfix_mm.export.stock_config import as_python, stock_config
from normfix_mm.export.to_onnx.write import check_available, write_onnx
from normfix_mm.layers.fold import fold
from normfix_mm.models.build import build_model, with_preprocessor

_KEPT_META = ("dataset_meta", "CLASSES", "PALETTE", "epoch", "iter", "seed", "experiment_name")


def fold_out(
    cfg: Config, checkpoint: Path, out: Path, image: Path | None = None, onnx: bool = False
) -> list[str]:
    """Write the folder ``out``, after the model read back from it has been compared on an image.

    Args:
        cfg: The config that the checkpoint was trained with.
        checkpoint: Local file; only tensors and plain values are read, no pickled code runs.
        out: Folder to make; it must not exist.
        image: Image to compare on; by default the first of the test or validation dataset.
        onnx: Whether to write an ONNX file as well, compared with the folded model on the image.

    Returns:
        The report: files and differences.

    Raises:
        BadInput: If ``out`` exists, the checkpoint does not fit, there is no image, or the folded
            model or its ONNX differs, or the config has options with which other weights would be
            folded than were trained. ``out`` is not made then.
    """
    if onnx:
        check_available()
    if out.exists() or out.is_symlink():  # a link to nothing does not exist
        raise BadInput(f"{str(out)!r} exists already; name a folder that fold can make.")
    cfg = with_preprocessor(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        image = first_image(cfg) if image is None else image
        if not image.is_file():
            raise BadInput(f"The image {str(image)!r} does not exist; correct --image.")
        stock = stock_config(cfg)
        state, meta = files.read(checkpoint)
        model = trained_model(cfg, state, meta, checkpoint)
        check_settings(cfg, model, meta, checkpoint)
        name = Path(cfg.filename or "model.py").stem
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            beside = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
        except OSError as error:
            raise BadInput(f"{str(out)!r} cannot be made ({error}); choose another.") from None
        with beside as unfinished:
            folder = Path(unfinished) / out.name
            folder.mkdir()
            write(folder / name, stock, fold(model), meta)
            other = read_back(folder / name)
            differences, same = compare(model, other, stock, image)
            if not same:
                raise BadInput(
                    f"The folded model does not compute what the trained one does, so "
                    f"{str(out)!r} was not written; on {image}: {'; '.join(differences)}."
                )
            if onnx:  # of a model read anew: comparing may have lowered the thresholds of this one
                classes = (meta.get("dataset_meta") or {}).get("classes") or meta.get("CLASSES")
                target = folder / f"{name}.onnx"
                differences += write_onnx(read_back(folder / name), stock, image, target, classes)
            os.rename(folder, out)
    imports = ", ".join(_imports(stock))
    needs = [f"needs, where it runs: {imports}"] if imports else []
    ends = ("py", "pth", "onnx") if onnx else ("py", "pth")
    written = ", ".join(f"{out / name}.{end}" for end in ends)
    return [written, *needs, f"{image}:", *differences, _conclusion(onnx)]


def _conclusion(onnx: bool) -> str:
    """Of differences within the tolerances; with others nothing is written."""
    both = ", and so does the ONNX file" if onnx else ""
    return f"the folded model computes the same as the trained one, but for rounding{both}"


def _imports(cfg: Config) -> list[str]:
    imports = cfg.get("custom_imports", {}).get("imports", [])
    return [imports] if isinstance(imports, str) else imports


def first_image(cfg: Config) -> Path:
    """The first image of the test dataset, or of the validation dataset."""
    for loader in ("test_dataloader", "val_dataloader"):
        try:
            dataset = DATASETS.build(copy.deepcopy(cfg[loader].dataset))
            image = Path(dataset.get_data_info(0)["img_path"])
        except Exception:  # no such loader, no annotations here, a dataset without images
            continue
        if image.is_file():
            return image
    raise BadInput(
        "The data of the config are not here, and the folded model is compared with the trained "
        "one on a real image: give one with --image PATH."
    )


def trained_model(cfg: Config, state: dict[str, Tensor], meta: dict, path: Path) -> nn.Module:
    """The model of the config with the weights of the checkpoint.

    Raises:
        BadInput: If a key is missing or unexpected, a shape differs, or the weights were trained in
            another form. A missing gain counts as well, although the layer would set it to |W|: it
            says that the checkpoint is of another network.
    """
    model = build_model(cfg)
    check_forms(model, dict(state_dict=state, meta=meta), str(path))
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise BadInput(
            f"The checkpoint {str(path)!r} does not fit the config: {one_line(error)}; give the "
            "config that it was trained with."
        ) from None
    missing += [name for name in model.state_dict() if name.endswith(".g") and name not in state]
    if missing or unexpected:
        kind, names = ("lacks", missing) if missing else ("has besides", unexpected)
        raise BadInput(
            f"The checkpoint {str(path)!r} does not fit the config: it {kind} {len(names)} "
            f"parameters, first {names[0]!r}; give the config that it was trained with."
        )
    return model


def check_settings(cfg: Config, model: nn.Module, meta: dict, path: Path) -> None:
    """Refuse a config with which other weights would be folded than were trained; warn of others.

    Both networks that are compared later are of this config, so that they cannot tell.

    Raises:
        BadInput: With the options, as the config and as the training had them.
    """
    ours, others = other_weights(meta, cfg, model)
    if ours:
        raise BadInput(
            f"The config is not the one that {str(path)!r} was trained with: {listing(ours, 5)}, "
            "so the folded weights would be those of another network; give the config, and the "
            "--cfg-options, that it was trained with (its text is in the checkpoint's "
            "meta['cfg'])."
        )
    if others:
        warnings.warn(other_settings_sentence(others, str(path)), stacklevel=2)


def write(stem: Path, stock: Config, plain: nn.Module, meta: dict) -> None:
    """Write the two files."""
    text = f'"""Folded by normfix_mm {normfix_mm.__version__}; {_needs(stock)}."""\n\n'
    text += as_python(stock.pretty_text)
    stem.with_name(f"{stem.name}.py").write_text(text, encoding="utf-8")
    kept = {key: meta[key] for key in _KEPT_META if key in meta}
    kept |= dict(
        cfg=text,
        folded_by=f"normfix_mm {normfix_mm.__version__}",
        mmengine_version=mmengine.__version__,
        time=time.strftime("%Y%m%d_%H%M%S"),
    )
    files.write(stem.with_name(f"{stem.name}.pth"), plain.state_dict(), kept)


def _needs(stock: Config) -> str:
    """What the folded model needs of this package, for the head of its config."""
    imports = _imports(stock)
    if any(name.partition(".")[0] == "normfix_mm" for name in imports):
        return "plain layers in parts of this package"
    theirs = [name for name in imports if _uses_this_package(name)]
    if theirs:
        return f"plain layers, but it imports {', '.join(theirs)}, which needs this package"
    return "needs nothing of it" + (f", but imports {', '.join(imports)}" if imports else "")


def _uses_this_package(name: str) -> bool:
    """Whether a module that the config imports, or one below it, has something of ours in it."""
    below = [m for key, m in [*sys.modules.items()] if f"{key}.".startswith(f"{name}.")]
    parts = [part for module in below if module for part in [*vars(module).values()]]
    homes = (p.__name__ if ismodule(p) else getattr(p, "__module__", "") for p in parts)
    return any(str(home).partition(".")[0] == "normfix_mm" for home in homes)


def read_back(stem: Path) -> nn.Module:
    """The model as a user of the two files will have it."""
    model = build_model(Config.fromfile(stem.with_name(f"{stem.name}.py")))
    state, _ = files.read(stem.with_name(f"{stem.name}.pth"))
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise BadInput(
            f"The folded weights do not fit the stock model: {one_line(error)}"
        ) from None
    return model
