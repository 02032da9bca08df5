"""The model of a config."""

from __future__ import annotations

import copy

from torch import nn

from normfix_mm.errors import BadInput, one_line


def with_preprocessor(cfg):
    """A copy whose model has the preprocessor that MMPretrain's configs put beside it.

    mmengine's Runner does the same; a model built without it takes images as they are.
    """
    cfg = copy.deepcopy(cfg)
    if cfg.get("data_preprocessor") is not None:
        cfg.model.setdefault("data_preprocessor", copy.deepcopy(cfg.data_preprocessor))
    return cfg


def build_model(cfg) -> nn.Module:
    """The model of a config, with no weights loaded.

    Raises:
        BadInput: It cannot be built.
    """
    from mmengine.registry import MODELS, DefaultScope

    model = with_preprocessor(cfg).model  # a copy: detectors write into their config
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        try:
            return MODELS.build(model)
        except Exception as error:  # an unknown type or option, a rule that matches nothing, ...
            text = one_line(error)
            merged = "; to replace a part of a `_base_` config give _delete_=True"
            raise BadInput(
                f"The model cannot be built: {text}"
                f"{merged if 'unexpected keyword argument' in text else ''}"
            ) from None
