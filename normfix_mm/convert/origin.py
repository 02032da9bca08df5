"""In which form a checkpoint's weights were trained, and what that means for the target."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

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
from normfix_mm.errors import BadInput, listing, quoted
from normfix_mm.layers import functional
from normfix_mm.typed import invocation

# The first convolution of most networks, and how depthwise ones are called.
_STEM = re.compile(r"(backbone\.|timm_model\.)*(conv1|conv_stem|stem\.(0|conv))(\.conv)?\.weight")
_CALLED_DEPTHWISE = re.compile(r"depthwise|dw")
DECLARABLE = (PLAIN, "WS", "WN", "CWN")


def origin_forms(
    state: Mapping[str, Tensor],
    meta: Mapping,
    names: Mapping[str, str],
    weights: Mapping[str, Tensor],
    file_name: str,
    declared: str | None,
    target: nn.Module | None = None,
) -> tuple[dict[str, str], str, bool]:
    """New weight name to form as far as it is known, how it is known, and whether that is all.

    Told by the first of these that says anything: metadata (ours, or a stored config), gains among
    the keys, the user, a file name like PytorchInsight's ws_resnet50.pth.tar, the running
    statistics of BN. What the user, the file name and the statistics say is taken to hold for the
    backbone's convolutions except depthwise ones; what the user says, for those of which the file
    says nothing.

    Args:
        state: the weights under their old names, as `meta` knows them.
        names: old name to new name.
        weights: the same weights under their new names.
        target: the model with these names, which tells what is depthwise.

    Raises:
        BadInput: The user says something else than the file.
    """
    evidence = examine(weights)
    found = checkpoint_forms(dict(state_dict=state, meta=meta))
    forms = {names[old]: form for old, form in found.items() if old in names}
    where = "the gains g among the keys"
    if meta.get(FORM_KEY) or set(found.values()) != {"with gain"}:
        where = "the metadata" if meta.get(FORM_KEY) else "the config stored in the file"
    # A config tells of every layer; what stands in the metadata may be of a backbone's alone.
    everything = "config" in where or not all(n.startswith("backbone.") for n in forms)
    everything = bool(found) and where != "the gains g among the keys" and everything
    if declared:
        supposed = _all_of(weights, declared, target)
        _refuse_contradiction(declared, {n: forms[n] for n in supposed if n in forms}, where)
        gaps = {name: form for name, form in supposed.items() if name not in forms}
        if not gaps and forms:
            return forms, f"{_summary(forms)}, from {where}", everything
        before = f"{_summary(forms)}, from {where}; the others " if forms else ""
        text = f"{before}{declared}, as declared{_doubt(evidence, declared)}"
        return forms | gaps, text, False
    if found:
        return forms, f"{_summary(forms)}, from {where}", everything
    if Path(file_name).name.lower().startswith("ws_"):
        text = f"WS, from the file's name (ws_…){_doubt(evidence, 'WS')}"
        return _all_of(weights, "WS", target), text, False
    if evidence.form is None:
        return {}, f"unknown; {evidence}", False
    forms = _all_of(weights, evidence.form, target)
    return forms, f"{evidence.form}, from the weights: {evidence}", False


def left_raw(
    weights: Mapping[str, Tensor], forms: Mapping[str, str], target: nn.Module | None
) -> list[str]:
    """What folding leaves as it is because nothing tells its form, as notes.

    Raises:
        BadInput: Not only depthwise convolutions are among it, while others have a form that a
            whole model may have everywhere and that no key shows.
    """
    raw = [name for name in _convolutions(weights) if name not in forms]
    depthwise = _depthwise(weights, target)
    others = [name for name in raw if name not in depthwise]
    hidden = {f for f in forms.values() if f not in (PLAIN, "with gain") and not takes_gain(f)}
    if others and hidden:
        raise BadInput(
            f"Nothing tells the form of {len(others)} convolutions (first {others[0]!r}) while "
            f"{listing(sorted(hidden))} is known of others: left as they are, the network may be "
            "another one; take the backbone alone with --part backbone, or fold with the model's "
            f"config, by `{invocation('fold')} CONFIG CHECKPOINT OUT`."
        )
    if not raw or set(forms.values()) <= {PLAIN}:
        return []
    kind = "convolutions of which nothing is known" if others else "depthwise convolutions"
    return [f"NOTE: {len(raw)} {kind} stay as they are: {quoted(raw)}"]


def _refuse_contradiction(declared: str, told: Mapping[str, str], where: str) -> None:
    """Of several forms in one file each layer has its own, and what is declared may be one."""
    kinds = set(told.values()) - {"with gain"}
    if kinds - {PLAIN} and declared != PLAIN:
        kinds -= {PLAIN}
    wrong = [n for n, form in told.items() if form in kinds and not _is_kind(form, declared)]
    if wrong:
        raise BadInput(
            f"--form {declared} contradicts {where}: {wrong[0]!r} is {told[wrong[0]]} there "
            f"({len(wrong)} of {len(told)} are not {declared}); leave --form out."
        )


def _is_kind(form: str, declared: str) -> bool:
    """Whether a form is what is declared, perhaps with more said: 'WS(eps=0.01)' is WS."""
    return form in (declared, f"{declared} with gain") or form.startswith(f"{declared}(")


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


def _all_of(weights: Mapping[str, Tensor], form: str, target: nn.Module | None) -> dict[str, str]:
    """This form for the backbone's convolutions, but for depthwise ones and those with a gain."""
    whole = any(name.startswith("backbone.") for name in weights)
    depthwise = _depthwise(weights, target)
    return {
        name: "with gain" if name.removesuffix("weight") + "g" in weights else form
        for name in _convolutions(weights)
        if name not in depthwise and (name.startswith("backbone.") or not whole)
    }


def _convolutions(weights: Mapping[str, Tensor]) -> list[str]:
    return [n for n, value in weights.items() if value.dim() == 4 and n.endswith(".weight")]


def _depthwise(weights: Mapping[str, Tensor], target: nn.Module | None) -> set[str]:
    """Names of depthwise convolutions: by the target's groups, else by their one input channel.

    The latter has the first convolution too where images are grey.
    """
    narrow = [name for name in _convolutions(weights) if weights[name].shape[1] == 1]
    layers = dict(target.named_modules()) if target is not None else {}
    groups = {n: getattr(layers.get(n.removesuffix(".weight")), "groups", None) for n in narrow}
    named = [n for n in _convolutions(weights) if not _CALLED_DEPTHWISE.search(n)]
    # Some files are sorted by name, and the stem is not the first then.
    first = next((n for n in named if _STEM.fullmatch(n)), named[0] if named else None)
    return {n for n in narrow if (n != first if groups[n] is None else groups[n] > 1)}


def _summary(forms: Mapping[str, str]) -> str:
    kinds = dict.fromkeys(forms.values())
    return listing(f"{form} ({sum(f == form for f in forms.values())})" for form in kinds)
