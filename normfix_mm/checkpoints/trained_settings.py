"""Has a config the settings of the model that a checkpoint was trained with?

Weights tell their shapes; they do not tell how pictures were normalized before them, nor the sizes
of anchors, the strides or the bound of a gain. mmengine stores the config in each checkpoint, and
compares nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from normfix_mm.checkpoints.stored_config import model_of, settings_of
from normfix_mm.errors import quoted

# What may be another without another answer, or is meant to be; layers are told by the weights.
_FREE = {
    *("type", "init_cfg", "pretrained", "train_cfg", "test_cfg", "with_cp", "frozen_stages"),
    *("norm_eval", "requires_grad", "momentum", "batch_augments", "pad_size_divisor", "size"),
    "gain_start",
}
# Of the layers built by these only options can differ: that there are others, the weights tell.
_OF_LAYERS = ("norm_cfg", "conv_cfg")
# Of these one that is not named is off.
_PREPROCESSING = ("mean", "std", "bgr_to_rgb", "rgb_to_bgr", "to_rgb")
# Of a rule that does not name the option; the others are of no account there.
_RULE = dict(
    kind="conv", layers=None, exclude=None, depthwise=False, eps=1e-5, gain=True, alpha=1.0
)
# Options that start a layer, or say its form, which `forms` compares.
_NO_FUNCTION = ("gain", "gain_start")


def other_settings(meta: object, cfg) -> list[str]:
    """Names of the model's settings that the config stored in this metadata has otherwise."""
    stored = meta.get("cfg") if isinstance(meta, Mapping) else None
    if not isinstance(stored, str):
        return []
    then = _model(settings_of(stored, ("model", "data_preprocessor")))
    return _differences(then, _model(cfg), "model")


def other_settings_sentence(changed: list[str], path: str) -> str:
    """The warning about them."""
    return (
        f"{quoted(changed)} of the config are not as {path!r} was trained, which its weights do "
        "not tell: its predictions may be wrong; set them as they were, or see that it is meant so."
    )


def other_weights(meta: Mapping, cfg, model: nn.Module) -> tuple[list[str], list[str]]:
    """What differs from the training, apart by whether the weights that layers apply change.

    Args:
        model: of `cfg`.

    Returns:
        Options of normalized layers, with their values where the stored model can be built, and
        names of the other settings.
    """
    changed = other_settings(meta, cfg)
    ours = [name for name in changed if _is_of_weights(name)]
    others = [name for name in changed if name not in ours]
    stored = meta.get("cfg")
    trained = model_of(stored) if isinstance(stored, str) else None
    if trained is None:
        return [repr(name) for name in ours], others
    return _other_layers(trained, model), others


def _is_of_weights(name: str) -> bool:
    return not {"normalize", "alpha", "conv_cfg"}.isdisjoint(name.split("."))


def _other_layers(trained: nn.Module, model: nn.Module) -> list[str]:
    """Options of the layers that both models have: defaults count as what they are."""
    before = dict(trained.named_modules())
    return [
        f"{name}.{option} is {now!r} and was {then!r}"
        for name, layer in model.named_modules()
        for option in getattr(layer, "option_names", ())
        if option not in _NO_FUNCTION
        and (now := getattr(layer, option, None))
        != (then := getattr(before.get(name), option, now))
    ]


def _model(config) -> Mapping | None:
    """The model of a config (mmengine's is no Mapping), with the preprocessor that stands apart."""
    model, apart = config.get("model"), config.get("data_preprocessor")
    if isinstance(model, Mapping) and apart is not None and "data_preprocessor" not in model:
        return {**model, "data_preprocessor": apart}
    return model


def _differences(before, now, name: str) -> list[str]:
    """Of what both have: a stock config of folded weights has no options of ours."""
    if name.endswith(".normalize"):
        before, now = _rules(before), _rules(now)
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [
            key
            for key in before
            if key in now and key not in _FREE and not str(key).startswith("loss")
        ]
        if _is_fixnorm(before) and _is_fixnorm(now):
            before, now = ({"alpha": 1.0} | dict(p) for p in (before, now))
            keys = list(dict.fromkeys([*keys, "alpha"]))
        if name.endswith("data_preprocessor"):
            before, now = (dict.fromkeys(_PREPROCESSING, False) | dict(p) for p in (before, now))
            before, now = ({k: p[k] or False for k in p} for p in (before, now))
            keys = list(dict.fromkeys([*_PREPROCESSING, *keys]))
        parts = [_differences(before[key], now[key], f"{name}.{key}") for key in keys]
    elif _are_lists(before, now) and len(before) == len(now):
        parts = [_differences(*pair, f"{name}.{k}") for k, pair in enumerate(zip(before, now))]
    elif _are_lists(before, now):
        return [name]
    else:
        told = before is None or name.endswith(_OF_LAYERS) or before == now
        return [] if told else [name]
    return [difference for part in parts for difference in part]


def _is_fixnorm(node: Mapping) -> bool:
    """Whether it is of a class of ours that has an alpha, whether named or not."""
    return str(node.get("type")).rpartition(".")[2].startswith("FixNorm")


def _are_lists(*nodes) -> bool:
    return all(isinstance(node, (list, tuple)) for node in nodes)


def _rules(given) -> list | None:
    """The rules of `normalize` with all their options: one that is not named counts as well."""
    if given is None:
        return None
    return [
        dict(_RULE, **rule) if isinstance(rule, Mapping) else rule
        for rule in (given if isinstance(given, (list, tuple)) else [given] if given else [])
    ]
