"""Does a checkpoint hold weights of the form that the model will apply?

Normalized layers keep the stock parameter names: a checkpoint of theirs loads into a stock model
and the reverse, every key matches. The function survives only if the form is the same, or if a
plain weight meets a layer with a gain (g = |W|); everything else is silently wrong, hence refused.
The form a checkpoint was trained in is read from the config that mmengine stores inside it, and
without one from the gains among its keys; a WS or CWN weight without such a config looks plain.
"""

from __future__ import annotations

from torch import nn

from .preflight import BadInput

PLAIN = "plain"


def model_forms(model: nn.Module) -> dict[str, str]:
    """Weight name to form, of convolutions and linear layers: 'plain', 'WS', 'WN with gain' ..."""
    from .core.selection import weights_of

    gains = {info.module_name for info in weights_of(model) if info.kind == "gain"}
    forms = {}
    for info in weights_of(model):
        if info.kind in ("conv", "linear"):
            gain = " with gain" if info.form == "WN" and info.module_name in gains else ""
            forms[info.name] = (info.form or PLAIN) + gain
    return forms


def checkpoint_forms(checkpoint: dict) -> dict[str, str]:
    """Weight name to form, as far as the checkpoint says; the rest is left out."""
    state = checkpoint.get("state_dict", checkpoint)
    names = {name.removeprefix("module.") for name in state}
    stored = (checkpoint.get("meta") or {}).get("cfg")
    if isinstance(stored, str):
        forms = _forms_of_config(stored)
        if forms is not None:
            # A form with a gain whose gain is not in the file has been folded since.
            return {
                name: form if not _takes_gain(form) or f"{name[:-7]}.g" in names else PLAIN
                for name, form in forms.items()
                if name in names
            }
    return {
        f"{name[:-2]}.weight": "with gain"
        for name in names
        if name.endswith(".g") and f"{name[:-2]}.weight" in names
    }


def check_forms(model: nn.Module, checkpoint: dict, path: str) -> None:
    """Refuse a checkpoint whose weights the model would apply in another form.

    Raises:
        BadInput: With the first weights concerned and the remedy.
    """
    wanted, found = model_forms(model), checkpoint_forms(checkpoint)
    wrong = {
        name: (found[name], form)
        for name, form in wanted.items()
        if name in found and not _keeps_function(found[name], form)
    }
    if not wrong:
        return
    have, want = next(iter(wrong.values()))
    raise BadInput(
        f"The checkpoint {path!r} holds {have} weights where the model has {want} ones "
        f"({len(wrong)} of {len(wanted)}, first {next(iter(wrong))!r}): every key would match and "
        "the outputs would be wrong; use the config it was trained with, or make it a plain "
        "checkpoint with `normfix_mm.fold` (which suits plain layers and layers with a gain)."
    )


def _keeps_function(have: str, want: str) -> bool:
    if have == "with gain":  # from the keys alone: which form of gain is not known
        return _takes_gain(want)
    return have == want or (have == PLAIN and _takes_gain(want))


def _takes_gain(form: str) -> bool:
    return form == "FixNorm" or form.endswith("with gain")


def _forms_of_config(text: str) -> dict[str, str] | None:
    """Forms of the model that a stored config describes, None if it cannot be built here."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    try:
        cfg = Config.fromstring(text, ".py")
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
            return model_forms(MODELS.build(cfg.model))
    except Exception:  # another version's config, a package that is not installed: no evidence
        return None
