"""The stock form of a config: what OpenMMLab's packages build without this one.

    type='NormalizedResNet', normalize=...        type='ResNet'             `stock`, `own_options`
    type='FixNormRetinaHead', alpha=...           type='RetinaHead'
    conv_cfg=dict(type='WNConv2d', gain=True)     conv_cfg=None             ConvWS, ConvAWS too
    cls_predictor_cfg=dict(type='FixNormLinear')  dict(type='Linear')
    loss_decode=dict(type='WeightedCrossEntropyLoss', class_weight=...)
                                                  dict(type='CrossEntropyLoss'): no inference has it
    test_evaluator=[dict(type='ClassIoUMetric'), dict(type='CityscapesOfficialMetric')]
                                                  [dict(type='IoUMetric')]
    test_evaluator=dict(type='ClassAccuracy')   dict(type='Accuracy')
    custom_hooks=[dict(type='NormFixHook'), ...]  the others
    constructor='EpsShiftOptimWrapperConstructor', paramwise_cfg=dict(eps_shift=...)   neither
    custom_imports of this package                those of others, and for what has no stock form,
                                                  as OCNet has none, its own module
    init_cfg=dict(type='Pretrained', ...)         None: the folded checkpoint holds the weights;
                                                  pretrained='...' likewise; within the model
                                                  pretrained=True becomes False, checkpoint_path ''

Everything else, the training schedule too, stays as it was. The weights' half of this is
:func:`normfix_mm.fold`.
"""

from __future__ import annotations

import io
import itertools
import tokenize

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

# The names under which mmcv builds plain layers.
_PLAIN = {nn.Conv2d: "Conv2d", nn.ConvTranspose2d: "deconv", nn.Linear: "Linear"}
_MMCV_OPTIONS = {"ConvWS2d": ("eps",), "ConvAWS2d": ()}
_GONE = object()


def stock_config(cfg: Config) -> Config:
    """A new config, flat; build it under the scope of ``cfg``.

    Nothing of this package is left, but what has no stock form: then ``custom_imports`` names the
    module that registers it, and its layers are plain.
    """
    stock = _stock(cfg.to_dict(), cfg.get("default_scope", "mmdet"))
    stock["model"] = _unfetched(stock.get("model"))
    needed = sorted(_own_modules(stock.get("model"), cfg.get("default_scope", "mmdet")))
    if needed:
        imports = stock.get("custom_imports", {}).get("imports", [])
        stock["custom_imports"] = dict(imports=[*needed, *imports], allow_failed_imports=False)
    stock["load_from"], stock["resume"] = None, False
    stock.pop("work_dir", None)
    return Config(stock)


def as_python(text: str) -> str:
    """The text of a config with `inf` and `nan`, which mmengine writes bare, as calls of float."""
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token, behind in reversed([*itertools.pairwise(tokens)]):
        bare = token.type == tokenize.NAME and token.string in ("inf", "nan")
        if bare and behind.string != "=":  # dict(inf=...) is a key
            (row, start), (_, end) = token.start, token.end
            line = lines[row - 1]
            lines[row - 1] = f"{line[:start]}float({token.string!r}){line[end:]}"
    return "".join(lines)


def _unfetched(node):
    """A model's config without what makes its parts load weights of their own (timm's)."""
    if isinstance(node, (list, tuple)):
        return type(node)(map(_unfetched, node))
    if not isinstance(node, dict):
        return node
    node = {name: _unfetched(part) for name, part in node.items()}
    if node.get("pretrained") is True:
        node["pretrained"] = False
    if isinstance(node.get("checkpoint_path"), str):
        node["checkpoint_path"] = ""
    return node


def _stock(node, scope: str, key: str | None = None, in_list: bool = False):
    """The stock form of any part of a config; ``_GONE`` if a folded config leaves it out."""
    if isinstance(node, (list, tuple)):
        parts = (_stock(part, scope, key, in_list=True) for part in node)
        return type(node)(part for part in parts if part is not _GONE)
    if key == "pretrained" and isinstance(node, str):
        return None
    if not isinstance(node, dict):
        return node
    kind = _class_of(node.get("type"), scope)
    if key == "custom_imports":
        return _foreign_imports(node)
    if key == "init_cfg" and node.get("type") == "Pretrained":
        return _GONE if in_list else None
    ours = isinstance(kind, type) and _is_ours(kind)
    if ours and (issubclass(kind, Hook) or getattr(kind, "stock", kind) is None):
        return _GONE
    node = dict(node)
    if hasattr(kind, "stock"):
        node["type"] = _name_of(kind.stock, scope)
        for option in kind.own_options:
            node.pop(option, None)
    elif _is_layer(kind):
        options = _MMCV_OPTIONS.get(kind.__name__) or getattr(kind, "option_names", ())
        node = {name: value for name, value in node.items() if name not in options}
        node["type"] = next(name for plain, name in _PLAIN.items() if issubclass(kind, plain))
        if key == "conv_cfg" and node == {"type": "Conv2d"}:
            return None
    if _is_ours(_class_of(node.get("constructor"), scope)):
        del node["constructor"]
        others = dict(node.pop("paramwise_cfg", None) or {})
        others.pop("eps_shift", None)
        node |= {"paramwise_cfg": others} if others else {}
    parts = {name: _stock(part, scope, name) for name, part in node.items()}
    return {name: part for name, part in parts.items() if part is not _GONE}


def _own_modules(node, scope: str) -> set[str]:
    """The modules of this package that register a type in this part of a config."""
    if isinstance(node, (list, tuple)):
        return set().union(*(_own_modules(part, scope) for part in node))
    if not isinstance(node, dict):
        return set()
    kind = _class_of(node.get("type"), scope)
    own = {".".join(kind.__module__.split(".")[:2])} if _is_ours(kind) else set()
    return own.union(*(_own_modules(part, scope) for part in node.values()))


def _class_of(name, scope: str):
    """The registered class of this name, None if no registry that concerns us knows it."""
    if not isinstance(name, str):
        return name
    for registry in (MODELS, HOOKS, METRICS, OPTIM_WRAPPER_CONSTRUCTORS):
        with registry.switch_scope_and_registry(scope) as inner:
            found = inner.get(name)
        if found is not None:
            return found
    return None


def _name_of(stock: type, scope: str) -> str:
    """The name to build ``stock`` by; mmseg has a ResNet too, which is not mmdet's."""
    name = stock.__name__
    return name if _class_of(name, scope) is stock else f"{stock.__module__.split('.')[0]}.{name}"


def _is_ours(kind) -> bool:
    return getattr(kind, "__module__", "").partition(".")[0] == "normfix_mm"


def _is_layer(kind) -> bool:
    return hasattr(kind, "normalized_weight") or getattr(kind, "__name__", "") in _MMCV_OPTIONS


def _foreign_imports(node: dict):
    imports = node.get("imports") or []
    imports = [imports] if isinstance(imports, str) else imports
    imports = [name for name in imports if name.partition(".")[0] != "normfix_mm"]
    return dict(node, imports=imports) if imports else _GONE
