"""From a checkpoint of somebody else to one that `load_from` or `Pretrained` takes.

``checkpoints.files`` reads and writes, ``sources`` renames, ``origin`` finds out the form of the
weights, ``target`` compares with the model to be initialized; here they are called in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from normfix_mm.checkpoints.forms import FORM_KEY, MEANT_KEY, PLAIN, eps_of, model_forms
from normfix_mm.convert.absorb import absorb as absorb_into_norms
from normfix_mm.convert.fit import check_backbone, other_strides
from normfix_mm.convert.key_table import Report, Row
from normfix_mm.convert.origin import check_target, fold_weights, left_raw, origin_forms
from normfix_mm.convert.sources import SOURCES, Source, detect, keep_names, rename
from normfix_mm.errors import BadInput, quoted
from normfix_mm.layers.fixnorm import FixNormLayer
from normfix_mm.layers.gain import GainedLayer
from normfix_mm.optim.weights import weights_of

_KEPT_META = ("dataset_meta", "CLASSES", "PALETTE")
INITIAL = "keeps its initialization"
NO_PLACE = "the model has no"
ABSORB = (
    "use normalize=dict(form='WN', gain=True), which keeps the function, give WS-trained weights, "
    "or absorb the scale (not the means, which matter) into BN with --absorb-into-bn"
)


@dataclass
class Conversion:
    """What is written, and what there is to say about it.

    Attributes:
        plain: the function of the source in plain weights, under the target's names.
    """

    state: dict[str, Tensor]
    meta: dict
    plain: dict[str, Tensor] | None
    report: Report


def convert(
    state: Mapping[str, Tensor],
    meta: Mapping,
    *,
    file_name: str = "",
    source: str | None = None,
    part: str | None = None,
    target: nn.Module | None = None,
    form: str | None = None,
    fold: bool = False,
    absorb: bool = False,
    allow_mismatch: bool = False,
) -> Conversion:
    """Rename weights, compare them with a model, and see that their function survives.

    Args:
        state, meta: of ``files.read``.
        file_name: of the checkpoint; PytorchInsight's says whether it is WS.
        source: a name of ``SOURCES``; recognized by the keys by default.
        part: which part of an OpenMMLab model is taken ('backbone', 'neck', ...); default: all the
            source has.
        target: the model, or its `part`, that shall be initialized.
        form: of the source's convolutions, where nothing in the file tells.
        fold: make plain weights of normalized ones.
        absorb: keep what can be kept of a plain network's function under WS (``absorb.absorb``).
        allow_mismatch: take weights into layers of another form nevertheless.

    Raises:
        BadInput: Unknown names, no weight in common, or a form that would change the function.
    """
    name = source or detect(state)
    kind = SOURCES[name]
    renamed = rename(state, kind, part)
    if target is not None:
        own = {n: tuple(v.shape) for n, v in target.state_dict().items()}
        renamed = keep_names(renamed, state, own, part or kind.part)
    names = {row.old: row.new for row in renamed if row.new}
    values = kind.values(state)
    weights = {new: values[old] for old, new in names.items()}
    declared = form or kind.form
    forms, text, everything = origin_forms(state, meta, names, weights, file_name, declared, target)
    report = Report(f"{name}, {kind.title}", form=text)
    report.notes += [kind.values_note] if kind.values_note else []
    plain = _plain(weights, forms)

    if fold:
        if not forms:
            raise BadInput(f"--fold needs to know the form, which is {text}; declare it by --form.")
        report.notes += [] if everything else left_raw(weights, forms, target)
        weights, folded = fold_weights(weights, forms)
        forms = dict.fromkeys(forms, PLAIN)
        report.notes.append(f"folded into plain weights: {len(folded)}")
    shapes = {n: tuple(v.shape) for n, v in (target.state_dict() if target else weights).items()}
    report.rows = [_row(r, tuple(state[r.old].shape), weights, shapes) for r in renamed]
    taken = {row.new for row in report.rows if row.status in ("taken", "renamed")}
    if not taken:
        raise BadInput(
            f"No weight of the checkpoint fits the model: it has {', '.join(list(state)[:3])}, …, "
            f"the model {', '.join(list(shapes)[:3])}, …; choose another --part or --source."
        )
    weights = {n: w for n, w in weights.items() if n in taken}
    forms = {n: f for n, f in forms.items() if n in taken}
    plain = {n: w for n, w in plain.items() if n in taken} if plain else plain
    if target is not None:
        check_backbone(target, part or kind.part, taken, report.rows)
        report.compared = True
        misfits = {row.new for row in report.rows if row.status == "shape mismatch"}
        report.rows += [r for r in _missing(target, shapes, taken) if r.new not in misfits]
        report.notes += _gaps(report.rows)
        report.notes += _bitten_caps(target, weights)
        report.notes += _strides(target, kind, state, allow_mismatch)
        wanted = {n: f for n, f in model_forms(target).items() if n in taken}
        if absorb:
            weights, forms = _absorb(weights, forms, wanted, target, report)
        try:
            check_target(forms, wanted, {"WS": ABSORB})
        except BadInput as mismatch:
            if not allow_mismatch:
                raise
            report.notes.append(f"WARNING: allowed nevertheless: {mismatch}")
        else:
            allow_mismatch = False
    elif absorb:
        raise BadInput("--absorb-into-bn needs --config, which says what is WS and has BN behind.")
    noted = _meta(meta, name, forms, part or kind.part, fold)
    if allow_mismatch:  # for those who will read the file: this was meant
        noted[MEANT_KEY] = True
    return Conversion(weights, noted, plain, report)


def _row(renamed, shape: tuple[int, ...], weights: Mapping, shapes: Mapping) -> Row:
    old, new, why = renamed
    if new is None:
        return Row("left", old, None, shape, why)
    if new not in weights:
        return Row("left", old, None, shape, "folded into the weight")
    if new not in shapes:
        return Row("left", old, None, shape, f"{NO_PLACE} {new}")
    if shape != shapes[new]:
        wanted = "×".join(map(str, shapes[new]))
        return Row("shape mismatch", old, new, shape, f"the model's, {wanted}, {INITIAL}")
    return Row("taken" if old == new else "renamed", old, new, shape)


def _missing(target: nn.Module, shapes: Mapping, taken: set[str]) -> list[Row]:
    gains = {f"{name}.g" for name, m in target.named_modules() if isinstance(m, GainedLayer)}
    rows = []
    for name, shape in shapes.items():
        if name in taken:
            continue
        why = INITIAL
        if name in gains and f"{name[:-2]}.weight" in taken:
            why = "becomes ‖W‖ when the weight is loaded"
        elif name.endswith("num_batches_tracked"):
            why = "a counter of BN's, which starts at 0"
        rows.append(Row("missing", None, name, shape, why))
    return rows


def _gaps(rows: list[Row]) -> list[str]:
    """What makes the target another network than the source, or leaves it incomplete."""
    unplaced = sum(row.why.startswith(NO_PLACE) for row in rows)
    initial = sum(row.why == INITIAL for row in rows)
    misfits = [row.new for row in rows if row.status == "shape mismatch"]
    notes = []
    if misfits:
        notes.append(
            f"WARNING: {len(misfits)} keys have another shape in the model, where they keep their "
            f"initialization: {quoted(misfits)}"
        )
    if unplaced:
        notes.append(f"WARNING: {unplaced} keys of the source have no place in the model")
    if initial:
        notes.append(f"NOTE: {initial} keys of the model keep their initialization")
    return notes


def _strides(target: nn.Module, kind: Source, state: Mapping, allowed: bool) -> list[str]:
    try:
        warning = other_strides(target, kind, state)
    except BadInput as mismatch:
        if not allowed:
            raise
        warning = f"WARNING: allowed nevertheless: {mismatch}"
    return [warning] if warning else []


def _absorb(weights, forms, wanted, target, report: Report):
    names = [n for n, want in wanted.items() if eps_of(want) is not None and forms.get(n) == PLAIN]
    if not names:
        raise BadInput(
            "--absorb-into-bn found no weight that is known to be plain and that the model "
            "standardizes; declare the source with --form plain, or leave the option out."
        )
    weights, energy = absorb_into_norms(weights, target, names)
    report.notes += [
        "",
        "Standardization absorbed into BN: the scale exactly, the filters' means not at all. Small",
        "shares matter too, since inputs behind a ReLU are all positive: measure with --image.",
        "",
        "| convolution | energy in the means, Σ n μ² / Σ ‖w‖² |",
        "|---|---|",
        *(f"| {name.removesuffix('.weight')} | {share:.2%} |" for name, share in energy.items()),
    ]
    return weights, forms | {name: wanted[name] for name in names}


def _bitten_caps(target: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """FixNorm layers whose cap is below the norm of the weight that they are given."""
    notes = []
    for info in weights_of(target):
        if isinstance(info.module, FixNormLayer) and info.name in weights:
            norm, cap = float(weights[info.name].double().norm()), info.module.cap
            if norm > cap and f"{info.module_name}.g" not in weights:
                notes.append(
                    f"WARNING: the cap of {info.module_name}, {cap:.4g}, is below the norm of its "
                    f"weight, {norm:.4g}: its outputs shrink by {cap / norm:.3g}; a larger alpha "
                    "keeps them"
                )
    return notes


def _plain(weights: Mapping[str, Tensor], forms: Mapping[str, str]) -> dict[str, Tensor] | None:
    try:
        return fold_weights(weights, forms)[0]
    except BadInput:  # a form that only its config can undo
        return None


def _meta(meta: Mapping, source: str, forms: Mapping, part: str | None, fold: bool) -> dict:
    kept = {key: meta[key] for key in _KEPT_META if key in meta and part is None}
    if "cfg" in meta and part is None and not fold:  # the config of this very model
        kept["cfg"] = meta["cfg"]
    return kept | {"normfix_source": source, FORM_KEY: dict(forms)}


def as_part(conversion: Conversion, part: str) -> None:
    """Put ``part.`` before every name, as a whole model has them."""
    forms = conversion.meta[FORM_KEY]
    conversion.state = {f"{part}.{name}": value for name, value in conversion.state.items()}
    conversion.meta[FORM_KEY] = {f"{part}.{name}": form for name, form in forms.items()}
