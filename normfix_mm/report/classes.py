"""Each class by itself: AP, IoU or recall, precision over recall, and what it is taken for.

A detector's come from ClassRecordHook's file, a segmenter's from ClassIoUMetric's values. A
classifier answers some hundred validation images anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from normfix_mm.report import plots
from normfix_mm.report.markup import figures, folded, number, table, text
from normfix_mm.report.run import Run
from normfix_mm.typed import invocation

KINDS = {"bbox": "boxes", "segm": "masks"}
LOW = 0.05  # AP under which a class gets a sentence
LARGER = (
    "larger pictures help: a larger --size for train_folder.py and more --hours, in a CONFIG a "
    "larger scale of its Resize"
)
MOST_ROWS = 30  # of a table that is not folded
WORST = 12  # confusions that are listed, where there are too many classes for a matrix


def classes(runs: list[Run]) -> str:
    """What there is to say of each class, by the runs' task."""
    scores = [set(run.results()) for run in runs]
    if any("AP" in found or "mask AP" in found for found in scores):
        return _detectors(runs)
    if any("mIoU" in found for found in scores):
        return _values(runs, [run.class_iou for run in runs], "IoU", "mIoU", "mIoU")
    recalls = _values(runs, [run.class_recall for run in runs], "Recall", "all images", "top-1")
    return recalls + _answers(runs)


def _values(runs: list[Run], found: list[dict], what: str, last: str, mean: str) -> str:
    """A column of values by class for each run."""
    names = list(dict.fromkeys(name for values in found for name in values))
    if not names:
        missing = (
            "<p>No IoU of single classes was logged; ClassIoUMetric as val_evaluator does.</p>"
        )
        return missing if what == "IoU" else ""
    rows = [[name, *(number(values.get(name)) for values in found)] for name in names]
    rows.append([last, *(number(run.results().get(mean)) for run in runs)])
    return _listing(f"{what} of each class", ["class", *(run.name for run in runs)], rows)


def _listing(title: str, head: list[str], rows: list[list[str]]) -> str:
    shown = table("figures classes", head, rows)
    if len(rows) > MOST_ROWS:
        shown = folded(f"{len(rows)} rows", shown)
    return f"<h3>{text(title)}</h3>\n{shown}"


def _detectors(runs: list[Run]) -> str:
    known = [run for run in runs if run.classes]
    parts = []
    for kind, objects in KINDS.items():
        having = [run for run in known if kind in run.classes["kinds"]]
        if having:
            parts.append(_average_precisions(having, kind, objects))
            parts += [f"<p>{text(said)}</p>" for run in having for said in remarks(run, kind)]
            parts.append(_curves(having, kind, objects))
    if known:
        parts.append("<h3>Which class is taken for which</h3>\n" + _matrices(known))
    parts += [
        f"<p>Nothing was noted of the classes of {text(run.name)}: {invocation('train')} does, and "
        "any other command with <code>dict(type='ClassRecordHook')</code> in its custom_hooks, at "
        "each evaluation by CocoMetric.</p>"
        for run in runs
        if not run.classes
    ]
    return "\n".join(parts)


def _average_precisions(runs: list[Run], kind: str, objects: str) -> str:
    """AP of each class, over all thresholds and at one, by run."""
    first = runs[0].classes
    head, rows = (
        ["class", objects],
        [[n, str(k)] for n, k in zip(first["classes"], first["objects"])],
    )
    rows.append(["all", str(sum(first["objects"]))])
    for run in runs:
        found = run.classes["kinds"][kind]
        of = f"{run.name}: " if len(runs) > 1 else ""
        for column, values in (("AP", found["ap"]), (_at(found), found["ap_at"])):
            head.append(of + column)
            by_name = dict(zip(run.classes["classes"], values))
            for row in rows[:-1]:
                row.append(number(by_name.get(row[0])))
            there = [value for value in values if value is not None]
            rows[-1].append(number(float(np.mean(there)) if there else None))
    return _listing(f"AP of each class, {objects}", head, rows)


def remarks(run: Run, kind: str) -> list[str]:
    """What to do about classes that are hardly found, and about small objects that are not.

    Larger pictures are the remedy only where COCO's AP of objects under 32 pixels lies far behind
    that of the others.
    """
    mask = "mask " if kind == "segm" else ""
    overall, names = run.results().get(f"{mask}AP", 1.0), run.classes["classes"]
    if overall < LOW:
        return [f"{run.name}: {mask}AP is {overall:.3f}: hardly anything is found; train longer."]
    small, others = _sizes(run, kind)
    behind = small is not None and small < others / 4
    found = run.classes["kinds"][kind]["ap"]
    low = sorted((ap, i) for i, ap in enumerate(found) if ap is not None and ap < LOW)
    said = [
        f"{run.name}: {mask}AP of {names[i]!r} is {ap:.3f}; {_reason(run, i, behind)}."
        for ap, i in low[: plots.FEW]
    ]
    if len(low) > plots.FEW:
        said.append(f"{run.name}: {len(low) - plots.FEW} more classes have less than {LOW}.")
    if behind and small < 0.005 and not low:
        said.append(f"{run.name}: {mask}AP small is {small:.3f}; {LARGER}.")
    return said


def _reason(run: Run, index: int, behind: bool) -> str:
    """Why a class has a low AP, by its row of the confusion, and what to do."""
    *answers, missed = run.classes["confusion"][index]
    answers[index] = 0
    most = max(answers, default=0)
    if most > missed:
        other = run.classes["classes"][answers.index(most)]
        return f"it is taken for {other!r}: they look alike, or are labelled so"
    remedy = f"where they are small, {LARGER}" if behind else "give more pictures of them, or time"
    return f"its objects are not found; {remedy}"


def _sizes(run: Run, kind: str) -> tuple[float | None, float]:
    """AP of small objects, None if there are none, and the better one of medium and large."""
    last = run.val[max(run.val)] if run.val else {}
    small, *others = (last.get(f"{kind}_mAP_{size}", -1) for size in "sml")
    return (small if small >= 0 else None), max(others)


def _at(found: dict) -> str:
    return f"AP{100 * found['iou']:.0f}"


def _curves(runs: list[Run], kind: str, objects: str) -> str:
    """Precision over recall: means of all runs, then each run's classes."""
    at = f"{runs[0].classes['kinds'][kind]['iou']:g}"
    drawings = [
        (
            partial(plots.mean_precision, kind=kind),
            f"Means over the classes of the {objects}. Solid: at an IoU of {at}; dashed: mean of "
            "all thresholds. The area below a curve is AP.",
        )
    ]
    many = max(len(run.classes["classes"]) for run in runs) > plots.MOST_CURVES
    note = f" The {plots.FEW} with the lowest AP have colours." if many else ""
    drawings += [
        (
            partial(plots.class_precision, run=run, kind=kind),
            f"{run.name}: {objects} of each class at an IoU of {at}, by pycocotools.{note}",
        )
        for run in runs
    ]
    return f"<h3>Precision over recall, {objects}</h3>\n{figures(drawings, runs)}"


def _matrices(runs: list[Run]) -> str:
    drawn, listed = [], []
    for run in runs:
        record = run.classes
        names = [*record["classes"], "background"]
        counts = np.array(record["confusion"])
        caption = (
            f"{run.name}: boxes of a score of at least {record['score']:g} that cover an object by "
            f"an IoU of at least {record['iou']:g}. Last row: boxes where nothing is; last column: "
            "objects that no box of their class covers."
        )
        if len(names) <= plots.MOST_CLASSES:
            drawn.append((partial(plots.confusion, names=names, counts=counts), caption))
        else:
            listed.append(_worst(names, counts, "boxes") + f"<p>{text(caption)}</p>")
    return (figures(drawn, runs) if drawn else "") + "\n".join(listed)


def _answers(runs: list[Run]) -> str:
    """Which class is taken for which, by classifiers."""
    if not any(run.scope == "mmpretrain" for run in runs):
        return ""
    from normfix_mm.report import labels

    parts = []
    for run in runs:
        try:
            found = labels.confusion(run)
        except (FileNotFoundError, ImportError, TypeError) as error:
            parts.append(f"<p>No confusion of {text(run.name)}: {text(str(error))}.</p>")
            continue
        tried = int(found.counts.sum())
        caption = f"{run.name}: {tried} of {found.of} validation images, {run.checkpoint.name}."
        if len(found.names) <= plots.MOST_CLASSES:
            draw = partial(plots.confusion, names=found.names, counts=found.counts)
            parts.append(figures([(draw, caption)], []))
        else:
            parts.append(_worst(found.names, found.counts, "images") + f"<p>{text(caption)}</p>")
    return "<h3>Which class is taken for which</h3>\n" + "".join(parts)


def _worst(names: Sequence[str], counts: np.ndarray, what: str) -> str:
    mistakes = [(n, i, j) for (i, j), n in np.ndenumerate(counts) if n and i != j]
    worst = sorted(mistakes, reverse=True)[:WORST]
    rows = [[names[i], names[j], str(n)] for n, i, j in worst]
    return table("figures", ["class", "taken for", what], rows)
