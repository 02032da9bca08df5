"""What a search turns in a config, and what it reads there: rate, α, λ, ε, seed, the metric.

A config may name its search itself, in OpenMMLab's manner:

    tune_cfg = dict(lr_range=(0.005, 0.1), budgets=(0.2, 1.0), metric='coco/bbox_mAP')

Otherwise the papers' values hold: rates of [0.2, 3.2] for a classifier trained from scratch, of
[0.005, 0.1] for a detector or segmenter.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from numbers import Real

from mmengine.config import Config

from normfix_mm.datasets.config import type_name
from normfix_mm.datasets.reported import JUDGES, REPORTED, names_reported
from normfix_mm.errors import BadInput, listing

SCRATCH, FINE = (0.2, 3.2), (0.005, 0.1)


# What changes how many iterations a training has.
LENGTHS = ("train_dataloader.batch_size", "train_cfg.max_epochs", "train_cfg.max_iters")


def set_values(cfg: Config, values: Mapping[str, float]) -> Config:
    """Write the values into the config, in place.

    Raises:
        BadInput: the config has no place for one of them.
    """
    for name, value in values.items():
        if "." in name:
            _set_dotted(cfg, name, value)
        elif name in _SETTERS:
            _SETTERS[name](cfg, value)
        else:
            raise BadInput(
                f"There is no setting {name!r} to tune; it is {listing(NAMES)}, or the dotted name "
                "of a setting of the config, such as train_dataloader.batch_size."
            )
    return cfg


def _set_dotted(cfg: Config, name: str, value: float) -> None:
    """Write a number where the config has one, or beside what it has there."""
    *groups, last = name.split(".")
    node = cfg
    for depth, key in enumerate(groups, start=1):
        node = _child(node, key)
        if not isinstance(node, (Mapping, list)):
            raise BadInput(f"The config has no {'.'.join(groups[:depth])}, of {name}, to tune.")
    old = _child(node, last)
    if isinstance(node, Mapping) and last not in node and "type" not in node:
        # What is constructed refuses a name that it does not take; nothing constructs this.
        near = difflib.get_close_matches(last, node, 1, 0.7)
        if near:
            raise BadInput(f"The config has no {name} to tune, but {near[0]!r} there; correct it.")
    if isinstance(old, (Mapping, list, tuple, str)) or (old is None and isinstance(node, list)):
        raise BadInput(f"The config has no number at {name} that could be tuned, but {old!r:.40}.")
    if isinstance(old, bool):
        value = bool(value)
    elif not isinstance(old, float) and value == int(value):
        value = int(value)  # such as a batch size
    node[int(last) if isinstance(node, list) else last] = value


def _child(node: Config | Mapping | list, key: str):
    """What a group of settings has under a key; of a list, at a position; or None."""
    if isinstance(node, list):
        return node[int(key)] if key.isdecimal() and int(key) < len(node) else None
    return node.get(key)


def _set_lr(cfg: Config, lr: float) -> None:
    optimizer = _optimizer(cfg)
    if "lr" not in optimizer:
        raise BadInput("The config's optimizer has no lr to tune.")
    schedulers = cfg.get("param_scheduler") or []
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        if "eta_max" in scheduler:  # OneCycleLR's own rate
            if not (isinstance(optimizer.lr, Real) and optimizer.lr > 0):
                raise BadInput(
                    f"The config's optimizer has lr {optimizer.lr!r}, by which OneCycleLR's "
                    "eta_max cannot be scaled; give both the same number."
                )
            scheduler.eta_max = scheduler.eta_max * lr / optimizer.lr
    optimizer.lr = float(lr)


def _set_alpha(cfg: Config, alpha: float) -> None:
    nodes = list(fixnorm_nodes(cfg.get("model")))
    if not nodes:
        raise BadInput(
            "No part of the config's model is FixNorm's, so there is no α to tune; use a head such "
            "as FixNormRetinaHead, or --method bo-wd or grid."
        )
    for node in nodes:
        node["alpha"] = float(alpha)


def _set_lam(cfg: Config, lam: float) -> None:
    optimizer = _optimizer(cfg)
    shift = _eps_shift(cfg)
    if "NormFixHook" in hooks(cfg):
        raise BadInput("The config fixes the norm of its weights, so no λ acts on them.")
    if shift is not None:
        shift["lam"] = float(lam)
    optimizer.weight_decay = float(lam)


def _set_eps(cfg: Config, eps: float) -> None:
    shift = _eps_shift(cfg)
    if shift is None:
        raise BadInput(
            "The config has no ε to tune; optim_wrapper.constructor="
            "'EpsShiftOptimWrapperConstructor' gives it one."
        )
    shift["eps"] = float(eps)


def _set_seed(cfg: Config, seed: float) -> None:
    if seed != int(seed):
        raise BadInput(f"A seed is a whole number, not {seed:g}.")
    cfg.randomness = dict(cfg.get("randomness") or {}, seed=int(seed))


_SETTERS = dict(lr=_set_lr, alpha=_set_alpha, lam=_set_lam, eps=_set_eps, seed=_set_seed)
NAMES = tuple(_SETTERS)


def _optimizer(cfg: Config):
    wrapper = cfg.get("optim_wrapper") or {}
    if "optimizer" not in wrapper:
        raise BadInput(
            "The config has no optim_wrapper.optimizer whose rate could be tuned (one optimizer "
            "is)."
        )
    return wrapper.optimizer


def _eps_shift(cfg: Config):
    wrapper = cfg.optim_wrapper
    if wrapper.get("constructor") != "EpsShiftOptimWrapperConstructor":
        return None
    paramwise = wrapper.setdefault("paramwise_cfg", {})
    return paramwise.setdefault("eps_shift", {})


def hooks(cfg: Config) -> list[str]:
    """The types of the config's own hooks."""
    found = cfg.get("custom_hooks") or []
    if not isinstance(found, (list, tuple)):
        raise BadInput(f"The config's custom_hooks is a list of hooks, not {found!r:.60}.")
    return [type_name(hook) for hook in found]


def fixnorm_nodes(node) -> Iterator[dict]:
    """The parts of a model that bound a gain by α: heads, layers, and rules of `normalize`."""
    if isinstance(node, dict):
        if node.get("form") == "FixNorm" or ("type" in node and _is_fixnorm(node)):
            yield node
        for child in node.values():
            yield from fixnorm_nodes(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from fixnorm_nodes(child)


def _is_fixnorm(node: dict) -> bool:
    from mmengine.registry import MODELS

    from normfix_mm.layers.fixnorm import FixNormConv2d, FixNormLinear
    from normfix_mm.models.mixins import FixNorm

    kind = node["type"]
    if type_name(node).startswith("FixNorm"):
        return True
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    ours = (FixNorm, FixNormConv2d, FixNormLinear)
    return isinstance(found, type) and issubclass(found, ours)


def check_fixnorm(cfg: Config) -> None:
    """See that a config trains with FixNorm.

    Raises:
        BadInput: it does not.
    """
    lacking = []
    if not any(fixnorm_nodes(cfg.get("model"))):
        lacking.append("no head or layer of FixNorm's (such as FixNormRetinaHead)")
    if "NormFixHook" not in hooks(cfg):
        lacking.append("no NormFixHook in custom_hooks")
    if lacking:
        raise BadInput(
            f"The config does not train with FixNorm: it has {' and '.join(lacking)}. Algorithm 4 "
            "tunes FixNorm; for other methods use --method bo-wd or grid."
        )


def check_decay(cfg: Config) -> None:
    """See that a config trains with ordinary decay alone.

    Raises:
        BadInput: it fixes norms or shifts its decay.
    """
    other = "NormFixHook" if "NormFixHook" in hooks(cfg) else None
    if cfg.optim_wrapper.get("constructor") == "EpsShiftOptimWrapperConstructor":
        other = "the ε-shifted regularizer"
    if other:
        raise BadInput(
            f"bo-wd tunes ordinary decay, but the config has {other}; give its baseline."
        )


def default_lr_range(cfg: Config) -> tuple[float, float]:
    """The papers': of ImageNet for classifiers, of COCO and Cityscapes for the rest."""
    return SCRATCH if cfg.get("default_scope") == "mmpretrain" else FINE


def metric_of(cfg: Config) -> tuple[str, str | None]:
    """The metric that judges a run and whether to 'maximize' or to 'minimize' it, if that is known.

    `default_hooks.checkpoint.save_best` says it (and `rule` the direction), or the evaluator does.

    Raises:
        BadInput: neither does, or nothing is evaluated.
    """
    if not cfg.get("val_evaluator") or not cfg.get("val_dataloader"):
        raise BadInput("The config validates nothing (no val_evaluator), so no run can be judged.")
    best = _checkpoint(cfg).get("save_best")
    if isinstance(best, str) and best != "auto":
        return best, direction_of(best, rule_of(cfg, best))
    for evaluator in _evaluators(cfg):
        for name in _reported(evaluator):
            return name, direction_of(name)
    kinds = listing(type_name(each) for each in _evaluators(cfg))
    raise BadInput(f"What {kinds} reports is not known here; name the judge with --metric.")


def rule_of(cfg: Config, metric: str) -> str | None:
    """What the checkpoint hook's `rule`, 'greater' or 'less', says of this metric."""
    checkpoint = _checkpoint(cfg)
    best, rule = checkpoint.get("save_best"), checkpoint.get("rule")
    same = isinstance(best, str) and best.rpartition("/")[2] == metric.rpartition("/")[2]
    return rule if same and rule in ("greater", "less") else None


def _checkpoint(cfg: Config) -> Mapping:
    return (cfg.get("default_hooks") or {}).get("checkpoint") or {}


def direction_of(metric: str, rule: str | None = None) -> str | None:
    """'maximize' or 'minimize', by mmengine's rules for the names of metrics; None if not known."""
    from mmengine.hooks import CheckpointHook

    if rule is not None:
        return "minimize" if rule == "less" else "maximize"
    if any(key in metric.lower() for key in CheckpointHook._default_less_keys):
        return "minimize"
    greater = [*CheckpointHook._default_greater_keys, *JUDGES]
    return "maximize" if any(key.lower() in metric.lower() for key in greater) else None


def floor_of(metric: str) -> float:
    """The least that a metric can be where more is better: 0 of AP, mIoU and the like."""
    return 0.0 if metric.rpartition("/")[2].startswith(JUDGES) else -math.inf


def check_metric(cfg: Config, metric: str) -> None:
    """See that an evaluator reports this metric, as far as that is known before it runs.

    Raises:
        BadInput: all evaluators are known ones, and none of them does.
    """
    known: list[str] = []
    for evaluator in _evaluators(cfg):
        if not (prefixes := _families(evaluator)):
            return
        known += prefixes
    bare = metric.rpartition("/")[2]
    if not any(family in bare for family in known):
        names = listing(name for each in _evaluators(cfg) for name in _reported(each))
        raise BadInput(
            f"No evaluator of the config reports {metric!r}; they report {names} and the like."
        )
    exact = [names_reported(evaluator) for evaluator in _evaluators(cfg)]
    bares = [name.rpartition("/")[2] for names in exact for name in names]
    near = difflib.get_close_matches(bare, bares, 3, 0.85)
    if all(exact) and near and bare not in bares:
        raise BadInput(
            f"No evaluator of the config reports {metric!r}, but {listing(near)}; correct --metric."
        )


def _evaluators(cfg: Config) -> list[dict]:
    found = cfg.val_evaluator
    return [found] if isinstance(found, dict) else list(found)


def _table(evaluator: dict) -> dict[str, tuple[str, ...]]:
    kind = type_name(evaluator)
    for name, table in REPORTED.items():
        if kind == name or kind.endswith(name):
            return table
    return {}


def _asked(evaluator: dict) -> list[str]:
    told = evaluator.get("metric", evaluator.get("iou_metrics"))
    default = dict(CocoMetric="bbox", LVISMetric="bbox", VOCMetric="mAP")
    told = told or default.get(type_name(evaluator), "mIoU")
    return [told] if isinstance(told, str) else list(told)


def _reported(evaluator: dict) -> list[str]:
    table = _table(evaluator)
    asked = _asked(evaluator)
    return [name for key, names in table.items() if key in ("", *asked) for name in names]


def _families(evaluator: dict) -> list[str]:
    """Parts of the names that a known evaluator gives its values."""
    kind, asked = type_name(evaluator), _asked(evaluator)
    if not _table(evaluator):
        return []
    if kind.endswith("IoUMetric"):
        more = dict(mIoU=["IoU", "Acc"], mDice=["Dice", "Acc"])
        more["mFscore"] = ["Fscore", "Precision", "Recall"]
        return ["aAcc", *(name for each in asked for name in more.get(each, [each]))]
    if kind.endswith("Accuracy"):
        return ["top"]
    if kind == "VOCMetric":
        return ["AP"]
    return [("AR@" if each.startswith("proposal") else each) for each in asked]
