"""In which form a checkpoint's weights were trained, and what that means for the target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from normfix_mm.checkpoints.forms import (
    FORM_KEY,
    NOT_PLAIN,
    PLAIN,
    checkpoint_forms,
    eps_of,
    keeps_function,
    takes_gain,
)
from normfix_mm.convert.evidence import Evidence, examine
from normfix_mm.errors import BadInput, listing
from normfix_mm.layers import functional
from normfix_mm.typed import invocation

DECLARABLE = (PLAIN, "WS", "WN", "CWN")


def origin_forms(
    state: Mapping[str, Tensor],
    meta: Mapping,
    names: Mapping[str, str],
    weights: Mapping[str, Tensor],
    file_name: str,
    declared: str | None,
) -> tuple[dict[str, str], str]:
    """New weight name to form as far as it is known, and how it is known.

    Told by the first of these that says anything: the user, metadata (ours, or a stored config),
    gains among the keys, a file name like PytorchInsight's ws_resnet50.pth.tar, the running
    statistics of BN. What the user, the file name and the statistics say is taken to hold for the
    backbone's convolutions except depthwise ones.

    Args:
        state: the weights under their old names, as `meta` knows them.
        names: old name to new name.
        weights: the same weights under their new names.
    """
    evidence = examine(weights)
    if declared:
        doubt = _doubt(evidence, declared)
        return _all_of(weights, declared), f"{declared}, as declared{doubt}"
    found = checkpoint_forms(dict(state_dict=state, meta=meta))
    if found:
        where = "the gains g among the keys"
        if meta.get(FORM_KEY) or set(found.values()) != {"with gain"}:
            where = "the metadata" if meta.get(FORM_KEY) else "the config stored in the file"
        forms = {names[old]: form for old, form in found.items() if old in names}
        return forms, f"{_summary(forms)}, from {where}"
    if Path(file_name).name.lower().startswith("ws_"):
        text = f"WS, from the file's name (ws_…){_doubt(evidence, 'WS')}"
        return _all_of(weights, "WS"), text
    if evidence.form is None:
        return {}, f"unknown; {evidence}"
    return _all_of(weights, evidence.form), f"{evidence.form}, from the weights: {evidence}"


def check_target(
    forms: Mapping[str, str], wanted: Mapping[str, str], remedies: Mapping[str, str]
) -> None:
    """Refuse weights that the target's layers would apply in another form.

    Args:
        forms: of the checkpoint, where known.
        wanted: of the target, for the weights that are taken.
        remedies: wanted form to what else can be done about plain weights for it.

    Raises:
        BadInput: With the first weight, the two forms and the ways out.
    """
    wrong = [n for n, want in wanted.items() if n in forms and not keeps_function(forms[n], want)]
    if wrong:
        have, want = forms[wrong[0]], wanted[wrong[0]]
        remedy = remedies.get(want.partition("(")[0]) if have == PLAIN else None
        if remedy is None and have == NOT_PLAIN:
            remedy = "declare the form with --form"
        elif remedy is None and (want == PLAIN or takes_gain(want)):
            remedy = "make them plain with --fold"
        elif remedy is None:
            remedy = "choose layers of the same form in the config"
        raise BadInput(
            f"The checkpoint holds {have} weights where the model has {want} ones ({len(wrong)} of "
            f"{len(wanted)}, first {wrong[0]!r}): every key would match and the network would be "
            f"another function; {remedy}, or keep them as they are with --allow-mismatch."
        )
    unknown = [
        n for n, want in wanted.items() if n not in forms and not keeps_function(PLAIN, want)
    ]
    if unknown:
        want = wanted[unknown[0]]
        declared = " or ".join(f"--form {form}" for form in (want, PLAIN) if form in DECLARABLE)
        raise BadInput(
            f"Nothing tells whether the weights were trained as {want}, which {len(unknown)} "
            f"layers of the model apply (first {unknown[0]!r}), and with plain ones training would "
            f"start from another function; declare them with {declared}, or keep them as they are "
            "with --allow-mismatch."
        )


def _doubt(evidence: Evidence, form: str) -> str:
    """A warning if the weights look like another form.

    They only tell plain, WS and 'normalized somehow' apart, so that WN and CWN may look like the
    last.
    """
    looks = evidence.form
    agrees = looks in (None, form) or (looks == NOT_PLAIN and form != PLAIN)
    return "" if agrees else f"; WARNING: they look {looks}: {evidence}"


@torch.no_grad()
def fold_weights(
    weights: Mapping[str, Tensor], forms: Mapping[str, str]
) -> tuple[dict[str, Tensor], list[str]]:
    """The same function in plain weights.

    Returns:
        The weights without gains, and the names of those that changed.

    Raises:
        BadInput: A form whose effective weight the file alone does not give.
    """
    folded, changed = dict(weights), []
    for name, form in forms.items():
        if form == PLAIN or name not in weights:
            continue
        weight = weights[name]
        gain_name = name.removesuffix("weight") + "g"
        gain = weights.get(gain_name)
        folded[name] = _effective(name, weight, form, gain)
        folded.pop(gain_name, None)
        changed.append(name)
    return folded, changed


def _effective(name: str, weight: Tensor, form: str, gain: Tensor | None) -> Tensor:
    eps = eps_of(form)
    if eps is not None:
        return functional.standardize(weight, eps)
    if form == "CWN":
        return functional.center_normalize(weight)
    if form == "WN":
        return functional.normalize(weight)
    # A gain per filter is never capped. A layer's single gain is under FixNorm, and only its form
    # tells that apart from plain weight normalization.
    if gain is not None and takes_gain(form) | (form == "with gain"):
        if len(gain) == len(weight) > 1:
            return functional.normalize(weight, gain)
        if form == "WN with gain":
            return functional.normalize_layer(weight, gain)
    raise BadInput(
        f"{name!r} is {form} and cannot be folded from the file alone: its gain belongs to the "
        "whole layer and may be capped by an alpha that only its config knows; fold it with "
        f"`{invocation('fold')} CONFIG CHECKPOINT OUT`."
    )


def _all_of(weights: Mapping[str, Tensor], form: str) -> dict[str, str]:
    """This form for the backbone's convolutions, but for depthwise ones and those with a gain."""
    whole = any(name.startswith("backbone.") for name in weights)
    return {
        name: "with gain" if name.removesuffix("weight") + "g" in weights else form
        for name, value in weights.items()
        if value.dim() == 4
        and name.endswith(".weight")
        and value.shape[1] > 1
        and (name.startswith("backbone.") or not whole)
    }


def _summary(forms: Mapping[str, str]) -> str:
    kinds = dict.fromkeys(forms.values())
    return listing(f"{form} ({sum(f == form for f in forms.values())})" for form in kinds)
