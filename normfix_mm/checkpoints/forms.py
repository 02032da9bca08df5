"""Does a checkpoint hold weights of the form that the model will apply?

Normalized layers keep the stock parameter names: a checkpoint of theirs loads into a stock model
and the reverse, every key matches. The function survives only if the form is the same, or if a
plain weight meets a layer with a gain (g = |W|); everything else is silently wrong, hence refused.
The form a checkpoint was trained in is read from what `tools/convert_checkpoint.py` notes in its
metadata, or from the config that mmengine stores inside it, and without either from the gains
among its keys. Where nothing tells and the model's layers cannot keep a plain weight's function,
all that can be done is to say so, loudly.
"""

from __future__ import annotations

import re
import warnings

from torch import nn

from normfix_mm.checkpoints.stored_config import model_of
from normfix_mm.errors import BadInput

PLAIN = "plain"
NOT_PLAIN = "normalized"  # in a form that is not known
# In a checkpoint's `meta`: weight name to form; and that another form was meant to be loaded.
FORM_KEY = "normfix_form"
MEANT_KEY = "normfix_mismatch_allowed"
_WS_EPS = 1e-5  # where nothing else is said, in our layers and in mmcv's


def model_forms(model: nn.Module) -> dict[str, str]:
    """Weight name to form, of convolutions and linear layers: 'plain', 'WS', 'WN with gain' ...

    WS with another eps than the usual one is another function, hence a form: 'WS(eps=0.01)'.
    """
    from normfix_mm.optim.weights import weights_of

    gains = {info.module_name for info in weights_of(model) if info.kind == "gain"}
    forms = {}
    for info in weights_of(model):
        if info.kind in ("conv", "linear"):
            gain = " with gain" if info.form == "WN" and info.module_name in gains else ""
            eps = info.module.eps if info.form == "WS" else _WS_EPS
            other = "" if eps == _WS_EPS else f"(eps={eps!r})"
            forms[info.name] = (info.form or PLAIN) + other + gain
    return forms


def eps_of(form: str) -> float | None:
    """The eps of a form of WS, None of another form."""
    found = re.fullmatch(r"WS(?:\(eps=(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\))?", form)
    return float(found[1] or _WS_EPS) if found else None


def checkpoint_forms(checkpoint: dict) -> dict[str, str]:
    """Weight name to form, as far as the checkpoint says; the rest is left out."""
    state = checkpoint.get("state_dict", checkpoint)
    names = {name.removeprefix("module.") for name in state}
    meta = checkpoint.get("meta") or {}
    if isinstance(meta.get(FORM_KEY), dict) and meta[FORM_KEY]:
        return {name: str(form) for name, form in meta[FORM_KEY].items() if name in names}
    stored = meta.get("cfg")
    if isinstance(stored, str):
        model = model_of(stored)
        if model is not None:
            forms = model_forms(model)
            # A form with a gain whose gain is not in the file has been folded since.
            return {
                name: form if not takes_gain(form) or f"{name[:-7]}.g" in names else PLAIN
                for name, form in forms.items()
                if name in names
            }
    return {
        f"{name[:-2]}.weight": "with gain"
        for name in names
        if name.endswith(".g") and f"{name[:-2]}.weight" in names
    }


def check_forms(model: nn.Module, checkpoint: dict, path: str, prefix: str = "") -> None:
    """Refuse a checkpoint whose weights the model would apply in another form; warn if unknown.

    Args:
        prefix: what stands before the model's own names in the checkpoint.

    Raises:
        BadInput: With the first weights concerned and the remedy.
    """
    wanted = model_forms(model)
    found = {
        name.removeprefix(prefix): form
        for name, form in checkpoint_forms(checkpoint).items()
        if name.startswith(prefix)
    }
    wrong = {
        name: (found[name], form)
        for name, form in wanted.items()
        if name in found and not keeps_function(found[name], form)
    }
    if not wrong:
        names = {n.removeprefix("module.") for n in checkpoint.get("state_dict", checkpoint)}
        loaded = [n for n in unsuited(model) if f"{prefix}{n}" in names and n not in found]
        if loaded:
            warnings.warn(foreign_weights(loaded, wanted, path), stacklevel=2)
        return
    have, want = next(iter(wrong.values()))
    if (checkpoint.get("meta") or {}).get(MEANT_KEY):
        warnings.warn(
            f"The checkpoint {path!r} was converted with --allow-mismatch: it holds {have} weights "
            f"where the model has {want} ones ({len(wrong)} of {len(wanted)}), so the network "
            "starts as another function.",
            stacklevel=2,
        )
        return
    raise BadInput(
        f"The checkpoint {path!r} holds {have} weights where the model has {want} ones "
        f"({len(wrong)} of {len(wanted)}, first {next(iter(wrong))!r}): every key would match and "
        "the outputs would be wrong; use the config it was trained with, or make it a plain "
        "checkpoint with `normfix_mm.fold` (which suits plain layers and layers with a gain)."
    )


def check_initial_forms(model: nn.Module, checkpoints: dict[str, dict]) -> None:
    """The same for each ``init_cfg=dict(type='Pretrained')``, on the module that it initializes.

    Args:
        checkpoints: path to content of the local files; the others are not fetched for this.

    Raises:
        BadInput: As `check_forms`.
    """
    for module in model.modules():
        for path, prefix in pretrained(module):
            if path in checkpoints:
                check_forms(module, checkpoints[path], path, prefix)
            elif unsuited(module):
                message = foreign_weights(unsuited(module), model_forms(module), path)
                warnings.warn(message, stacklevel=2)


def pretrained(module: nn.Module) -> list[tuple[str, str]]:
    """Checkpoint and prefix of each 'Pretrained' in the module's own ``init_cfg``."""
    given = getattr(module, "init_cfg", None) or ()
    return [
        (each["checkpoint"], f"{each['prefix'].removesuffix('.')}." if each.get("prefix") else "")
        for each in ([given] if isinstance(given, dict) else given)
        if isinstance(each, dict)  # else it is refused as the model is built
        and each.get("type") == "Pretrained"
        and isinstance(each.get("checkpoint"), str)
    ]


def unsuited(model: nn.Module) -> list[str]:
    """Names of the weights whose layers change the function of a plain checkpoint."""
    return [n for n, form in model_forms(model).items() if not keeps_function(PLAIN, form)]


def foreign_weights(names: list[str], forms: dict[str, str], path: str) -> str:
    """The warning about weights of which nobody knows whether they were trained in this form."""
    form = forms[names[0]]
    return (
        f"The checkpoint {path!r} initializes {len(names)} {form} layers (first {names[0]!r}) and "
        f"does not say how it was trained: {form} layers need {form}-pretrained weights, and with "
        "plain ones (torchvision's, for example) the network starts as another function; give a "
        f"{form}-pretrained checkpoint, train from scratch (init_cfg=None), or use "
        "normalize=dict(form='WN', gain=True), which keeps the function."
    )


def keeps_function(have: str, want: str) -> bool:
    """Whether weights of form `have` in layers of form `want` are the same function."""
    if have == "with gain":  # from the keys alone: which form of gain is not known
        return takes_gain(want)
    return have == want or (have == PLAIN and takes_gain(want))


def takes_gain(form: str) -> bool:
    """Whether layers of this form start with g = |W|, and so keep a plain weight's function."""
    return form == "FixNorm" or form.endswith("with gain")
