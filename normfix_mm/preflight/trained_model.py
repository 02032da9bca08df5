"""Has the config the settings of the model that its checkpoint was trained with?

Weights tell their shapes; they do not tell how pictures were normalized before them, nor the sizes
of anchors or the strides. mmengine stores the config in each checkpoint, and compares nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from normfix_mm.checkpoints.stored_config import settings_of
from normfix_mm.errors import quoted
from normfix_mm.preflight.notes import warn
from normfix_mm.preflight.resumed import plain

# What may be another without another answer, or is meant to be; layers are told by the weights.
_FREE = {
    *("type", "init_cfg", "pretrained", "train_cfg", "test_cfg", "with_cp", "frozen_stages"),
    *("norm_eval", "norm_cfg", "conv_cfg", "batch_augments", "pad_size_divisor", "size"),
    "gain_start",
}
# Of a rule that does not name the option; the others are of no account there.
_RULE = dict(
    kind="conv", layers=None, exclude=None, depthwise=False, eps=1e-5, gain=True, alpha=1.0
)


def warn_of_other_settings(checkpoint: Mapping, path: str, cfg) -> None:
    """Say which settings of the model were others in the training."""
    meta = checkpoint.get("meta")
    stored = meta.get("cfg") if isinstance(meta, Mapping) else None
    then = settings_of(stored, ("model",)).get("model") if isinstance(stored, str) else None
    changed = _differences(plain(then), plain(cfg.model), "model")
    if changed:
        warn(
            f"{quoted(changed)} of the config are not as {path!r} was trained, which its weights "
            "do not tell: its predictions may be wrong; set them as they were, or see that it is "
            "meant so."
        )


def _differences(before, now, name: str) -> list[str]:
    """Of what both have: a stock config of folded weights has no options of ours."""
    if name.endswith(".normalize"):
        before, now = _rules(before), _rules(now)
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in before if key in now and key not in _FREE]
        parts = [
            _differences(before[key], now[key], f"{name}.{key}")
            for key in keys
            if not key.startswith("loss")
        ]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        parts = [_differences(*pair, f"{name}.{k}") for k, pair in enumerate(zip(before, now))]
    else:
        return [] if before is None or before == now else [name]
    return [difference for part in parts for difference in part]


def _rules(given) -> list | None:
    """The rules of `normalize` with all their options: one that is not named counts as well."""
    if given is None:
        return None
    return [
        dict(_RULE, **rule) if isinstance(rule, dict) else rule
        for rule in (given if isinstance(given, list) else [given] if given else [])
    ]
