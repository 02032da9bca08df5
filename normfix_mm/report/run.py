"""One training run as it lies in its work dir: settings, curves, results, newest checkpoint.

Reads what mmengine leaves there: ``<time>/vis_data/scalars.json`` (one line per logged step, one
folder per start of the run), the dumped config, ``last_checkpoint``; and beside the scalars
``run.json`` and ``classes.json`` of our hooks, where they were in use. A run that was resumed has
several folders; where they overlap, the later one counts.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from normfix_mm.datasets.reported import JUDGES
from normfix_mm.errors import one_line

RESULTS = (
    ("AP", "bbox_mAP"),
    ("AP50", "bbox_mAP_50"),
    ("AP75", "bbox_mAP_75"),
    ("AP small", "bbox_mAP_s"),
    ("AP medium", "bbox_mAP_m"),
    ("AP large", "bbox_mAP_l"),
    ("mask AP", "segm_mAP"),
    ("mask AP50", "segm_mAP_50"),
    ("mask AP75", "segm_mAP_75"),
    ("AP", "bbox_AP"),
    ("mask AP", "segm_AP"),
    ("mAP", "mAP"),
    ("AR 1000", "AR@1000"),
    ("mIoU", "mIoU"),
    ("mDice", "mDice"),
    ("mFscore", "mFscore"),
    ("aAcc", "aAcc"),
    ("mAcc", "mAcc"),
    ("top-1", "top1"),
    ("top-5", "top5"),
)
# What MMSegmentation and MMPretrain log as such; a Run holds shares of 1.
PERCENT = ("mIoU", "mDice", "mFscore", "aAcc", "mAcc", "top1", "top5")
CLASS = ("IoU/", "recall/")  # begin the names of ClassIoUMetric's and ClassAccuracy's values
RISK = "mcbr/"  # those of CrossBoundaryRiskHook's, before a layer's name
# Lines of mmengine's log: of a loop by iterations, or by epochs, with their length.
LOOP = re.compile(r"Iter\(train\)|Epoch\(train\) +\[\d+\]\[ *\d+/(\d+)\]")
# Of default_hooks, those that every config has; what else stands there is worth a word.
USUAL_HOOKS = ("timer", "logger", "param_scheduler", "checkpoint", "sampler_seed", "visualization")
USUAL_HOOKS += ("run_record", "class_record", "fresh_scores")
BACKBONE = ("type", "depth", "base_channels", "norm_eval", "frozen_stages")


class NoRun(ValueError):
    """A work dir that holds no run to report."""


@dataclass
class Run:
    """A run.

    Attributes:
        name: what the page calls it.
        folder: the work dir.
        train: logged training steps by iteration, ascending.
        val: evaluations by iteration, ascending.
        config_path: the dumped config.
        records: what RunRecordHook has noted at each start; empty without it.
        classes: what ClassRecordHook has noted at the last evaluation; empty without it.
    """

    name: str
    folder: Path
    train: dict[int, dict] = field(default_factory=dict)
    val: dict[int, dict] = field(default_factory=dict)
    config_path: Path | None = None
    records: list[dict] = field(default_factory=list)
    classes: dict = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path, name: str | None = None) -> Run:
        """Read a work dir.

        Raises:
            NoRun: if it is missing, holds no logged step, or no config of a run.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise NoRun(f"{folder} is not a folder; give the work dir of a run (its --work-dir)")
        configs = sorted(folder.glob("*.py"), key=lambda path: path.stat().st_mtime)
        if not configs:
            raise NoRun(f"{folder} holds no config, so no run was started there; train first")
        run = cls(name or configs[-1].stem, folder, config_path=configs[-1])
        run.train, evaluations = scalars(folder)
        run.val = {
            step: dict(_result(key, value) for key, value in entry.items())
            for step, entry in evaluations.items()
            if any(key.split("/")[-1] in JUDGES for key in entry)
        }
        if not run.train:
            raise NoRun(f"{folder} holds no logged training step yet; let the run go on longer")
        run._check_config()
        run.records = list(_noted(folder, "run.json"))
        run.classes = next(reversed(list(_noted(folder, "classes.json"))), {})
        return run

    def _check_config(self) -> None:
        try:
            cfg = self.config
        except Exception as error:  # a config is a program, and may end in any of them
            raise NoRun(
                f"the config {str(self.config_path)!r} cannot be read ({type(error).__name__}: "
                f"{one_line(error, 120)}); put the run's own there"
            ) from None
        if cfg.get("model") is None or cfg.get("train_cfg") is None:
            raise NoRun(f"{str(self.config_path)!r} is no config of a run; put the run's own there")

    @property
    def class_iou(self) -> dict[str, float]:
        """IoU of each class in a segmenter's last evaluation by ClassIoUMetric."""
        return self._of_classes("IoU/")

    @property
    def class_recall(self) -> dict[str, float]:
        """Recall of each class in a classifier's last evaluation by ClassAccuracy."""
        return self._of_classes("recall/")

    def _of_classes(self, prefix: str) -> dict[str, float]:
        last = self.val[max(self.val)] if self.val else {}
        return {k.removeprefix(prefix): v for k, v in last.items() if k.startswith(prefix)}

    @property
    def config(self):
        """The run's config, an ``mmengine.Config``."""
        from mmengine.config import Config

        return Config.fromfile(str(self.config_path), import_custom_modules=False)

    @property
    def scope(self) -> str:
        """The framework whose model it trains: 'mmdet', 'mmseg' …"""
        return self.config.get("default_scope", "mmdet")

    @property
    def checkpoint(self) -> Path | None:
        """What the run is judged by: the best checkpoint where it keeps one, else the newest."""
        if (best := self._best_checkpoint()) is not None:
            return best
        note = self.folder / "last_checkpoint"
        # Only the name counts: the work dir may have moved since.
        path = self.folder / Path(note.read_text().strip()).name if note.is_file() else None
        return path if path is not None and path.is_file() else None

    def _best_checkpoint(self) -> Path | None:
        return max(
            self.folder.glob("best_*.pth"), key=lambda path: path.stat().st_mtime, default=None
        )

    def best(self) -> dict[str, float]:
        """Name and value of the result that a best checkpoint is kept for; empty without one."""
        kept = self._best_checkpoint()
        for label, key in RESULTS if kept else ():
            values = self.val_curve(key)[1]
            if values and re.search(rf"_{key}_(epoch|iter)_", kept.name):
                return {label: max(values)}
        return {}

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Iterations and finite values of one logged scalar; empty if it was not logged."""
        return _curve(self.train, key)

    def val_curve(self, key: str) -> tuple[list[int], list[float]]:
        """Iterations and values of one result, such as 'bbox_mAP'."""
        return _curve(self.val, key)

    def keys(self, prefix: str) -> list[str]:
        """Names of logged scalars that start with ``prefix``."""
        return _names(self.train, prefix)

    def val_keys(self, prefix: str) -> list[str]:
        """Names of what was logged with evaluations and starts with ``prefix``."""
        return _names(self.val, prefix)

    @property
    def iterations(self) -> int:
        """How many were done, as far as was logged; an evaluation is after the last of them."""
        return max([*self.train, *self.val])

    def results(self) -> dict[str, float]:
        """Last evaluation; -1, COCO's mark for "no such object", is left out."""
        if not self.val:
            return {}
        last = self.val[max(self.val)]
        return {label: last[key] for label, key in RESULTS if last.get(key, -1) >= 0}

    def seconds_per_iteration(self) -> float | None:
        times = self.curve("time")[1]
        return statistics.median(times) if times else None


def scalars(folder: str | Path) -> tuple[dict[int, dict], dict[int, dict]]:
    """What a run has logged so far, as mmengine wrote it: training steps, evaluations.

    Both by iterations done, ascending: an evaluation at the end of an epoch is after all of its
    iterations, of which not all are logged. A work dir without a log gives two empty dictionaries.
    """
    train: dict[int, dict] = {}
    val: dict[int, dict] = {}
    for log in sorted(Path(folder).glob("*/vis_data/scalars.json")):
        at = max(train, default=0)  # a log that starts with an evaluation is of the last step
        first, epoch = True, _epoch_length(log.parents[1])
        for line in log.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of an interrupted run may be cut
            if "loss" in entry:
                # mmengine's 'step' of a training entry is the iteration, in both kinds of loop.
                at = entry["step"]
                if first:  # resumed: forget what the interrupted start had logged beyond this
                    for curve in (train, val):
                        for step in [step for step in curve if step >= at]:
                            del curve[step]
                    first = False
                train[at] = entry
            # NormMonitorHook's entries, of single weights, are no evaluation.
            elif not any(key.startswith("leaning/") for key in entry):
                done = entry.get("step", 0) * (epoch or 1)
                val[max(at, done)] = entry
    return train, val


def _epoch_length(folder: Path) -> int | None:
    """Iterations of an epoch, as the log of this start has it; None if it counts no epochs."""
    for log in sorted(folder.glob("*.log")):
        with open(log, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if found := LOOP.search(line):
                    return found[1] and int(found[1])
    return None


def _noted(folder: Path, name: str) -> Iterator[dict]:
    """What a hook has left under this name, by start of the run."""
    for path in sorted(folder.glob(f"*/vis_data/{name}")):
        with contextlib.suppress(ValueError):  # not ours, or damaged: as if it were not there
            found = json.loads(path.read_text())
            if isinstance(found, dict):
                yield found


def _result(key: str, value: float) -> tuple[str, float]:
    if key.startswith(CLASS):
        return key, value / 100
    if key.startswith(RISK):
        return key, value
    key = key.split("/")[-1]
    return key, value / 100 if key in PERCENT else value


def _names(entries: dict[int, dict], prefix: str) -> list[str]:
    return sorted({key for entry in entries.values() for key in entry if key.startswith(prefix)})


def _curve(entries: dict[int, dict], key: str) -> tuple[list[int], list[float]]:
    steps = [step for step in sorted(entries) if math.isfinite(entries[step].get(key, math.nan))]
    return steps, [entries[step][key] for step in steps]


def settings(run: Run) -> list[tuple[str, str]]:
    """The hyper-parameters a reader looks for first, as (name, value)."""
    cfg = run.config
    model, wrapper = cfg.model, cfg.get("optim_wrapper") or {}
    wrappers = [wrapper] if "optimizer" in wrapper else wrapper.values()  # of several, by name
    optimizers = [each["optimizer"] for each in wrappers if isinstance(each, dict)]
    backbone = model.get("backbone") or {}
    roi = model.get("roi_head", {})
    heads = [model.get("rpn_head"), model.get("bbox_head"), model.get("head")]
    heads += [*_listed(model.get("decode_head")), *_listed(model.get("auxiliary_head"))]
    heads += [*_listed(roi.get("bbox_head")), *_listed(roi.get("mask_head"))]
    added = {k: hook for k, hook in cfg.get("default_hooks", {}).items() if k not in USUAL_HOOKS}
    hooks = [_call(hook) for hook in [*cfg.get("custom_hooks", []), *added.values()] if hook]
    loop = cfg.train_cfg
    rows = [
        ("model", model.type),
        ("backbone", _call({k: backbone[k] for k in BACKBONE if k in backbone})),
        ("heads", ", ".join(dict.fromkeys(_call(_chosen(head)) for head in heads if head))),
        ("optimizer", "; ".join(map(_optimizer, optimizers)) or "–"),
        ("schedule", ", ".join(_call(s) for s in _listed(cfg.get("param_scheduler")))),
        (
            "length",
            ", ".join(
                f"{loop[key]} {word}"
                for key, word in (("max_epochs", "epochs"), ("max_iters", "iterations"))
                if key in loop
            ),
        ),
        ("batch size", str((cfg.get("train_dataloader") or {}).get("batch_size", "–"))),
        ("seed", str(cfg.get("randomness", {}).get("seed"))),
        ("hooks", ", ".join(hooks) or "none"),
    ]
    return rows


def _optimizer(optimizer: dict) -> str:
    numbers = [
        f"{key} {optimizer[key]:g}"
        for key in ("lr", "momentum", "weight_decay")
        if isinstance(optimizer.get(key), (int, float))
    ]
    return ", ".join([str(optimizer.get("type")), *numbers])


def _chosen(head: dict) -> dict:
    return {key: head[key] for key in ("type", "alpha", "num_classes") if key in head}


def _listed(configs) -> list:
    return [configs] if isinstance(configs, dict) else list(configs or [])


def _call(cfg: dict) -> str:
    """'LinearLR (begin 0, end 80)' of a registry config; '–' of none."""
    if "type" not in cfg:
        return "–"
    options = ", ".join(
        f"{key} {value}"
        for key, value in cfg.items()
        if key != "type" and isinstance(value, (int, float, str, list))
    )
    return f"{cfg['type']} ({options})" if options else cfg["type"]
