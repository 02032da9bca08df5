"""The model of the config that mmengine stores in a checkpoint, without running that config.

The text comes with the checkpoint, whoever made that: it is read as literals, not run as the Python
that it is, and only models are built that come of their options alone, touching no file.
"""

from __future__ import annotations

import ast
import importlib.util
import re

from torch import nn

_SCOPES = ("mmdet", "mmseg", "mmpretrain", "mmengine")
# Modules whose classes make layers of their options, and nothing else of them. (Classifiers' global
# pooling has a namesake among what MMDetection re-identifies with.)
_LAYERS = re.compile(
    r"(?!.*(language_model|multimodal|multi_modal|tracking|mot|reid\.(?!gap)|timm|hugging|"
    r"text_encoder|kd_))"
    r"(torch\.nn|mmengine\.(model|utils\.dl_utils)|mmcv\.(cnn|ops)|normfix_mm|"
    r"mm(det|seg|pretrain)\.(models|structures|evaluation))\b"
)
_FILE = re.compile(r"[/\\]|::|\.(py|json|ya?ml|pkl|pickle|pth|pt|npy|npz)$", re.IGNORECASE)


def model_of(text: str) -> nn.Module | None:
    """The model that a stored config describes, None if it cannot be built here."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    try:
        cfg = Config(_literals(text, ("model", "default_scope", "custom_imports")))
        for module in (cfg.get("custom_imports") or {}).get("imports", ()):
            if module.startswith("normfix_mm."):
                importlib.import_module(module)
        scope = cfg.get("default_scope", "mmdet")
        if scope not in _SCOPES:
            return None
        model = _without_weights(cfg.model)
        with DefaultScope.overwrite_default_scope(scope):
            _refuse_programs(model)
            return MODELS.build(model)
    except Exception:  # another version's config, a package that is not installed: no evidence
        return None


def settings_of(text: str, names: tuple[str, ...]) -> dict:
    """These settings of a stored config, if they are written in literals; empty if not."""
    try:
        return _literals(text, names)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return {}


def _literals(text: str, names: tuple[str, ...]) -> dict:
    """What a config text assigns to these names, made of literals and `dict(key=literal)`.

    Infinity is `inf`, as mmengine writes it, or `float('inf')`, and nan likewise.
    """

    class Calls(ast.NodeTransformer):
        def visit_Name(self, node):
            return ast.Constant(float(node.id)) if node.id in ("inf", "nan") else node

        def visit_Call(self, node):
            if ast.unparse(node) in ("float('inf')", "float('nan')"):
                return ast.Constant(float(node.args[0].value))
            self.generic_visit(node)
            if getattr(node.func, "id", None) != "dict" or node.args:
                return node  # which literal_eval refuses
            keys = [kw.arg and ast.Constant(kw.arg) for kw in node.keywords]
            return ast.Dict(keys, [kw.value for kw in node.keywords])

    return {
        node.targets[0].id: ast.literal_eval(Calls().visit(node.value))
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in names
    }


def _without_weights(node):
    """The config without what names files of weights, which say nothing of its forms."""
    if isinstance(node, dict):
        kept = {k: v for k, v in node.items() if k not in ("init_cfg", "pretrained")}
        return type(node)({key: _without_weights(value) for key, value in kept.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(map(_without_weights, node))
    return node


def _refuse_programs(node) -> None:
    """Refuse a model config that could do more than make layers.

    A `type` that no registry knows is imported and called by mmengine, and some registered types
    read other configs, evaluate their options or fetch models.
    """
    if isinstance(node, str) and _FILE.search(node):
        raise ValueError(f"{node!r} may name a file")
    if isinstance(node, dict):
        if node.get("_scope_", "mmdet") not in _SCOPES:
            raise ValueError(f"_scope_={node['_scope_']!r} would be imported")
        if "type" in node:
            _refuse_foreign(node["type"])
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for child in node:
        _refuse_programs(child)


def _refuse_foreign(name: str) -> None:
    """Refuse a type that is not registered, or not by the parts of the frameworks for layers."""
    from mmengine import registry as mmengine_registry

    scope, dot, bare = name.rpartition(".")
    if dot and scope not in _SCOPES:
        raise ValueError(f"type={name!r} is no registered name")
    found = [
        registry.module_dict[bare].__module__
        for root in vars(mmengine_registry).values()
        if isinstance(root, mmengine_registry.Registry)
        for registry in (root, *root.children.values())
        if bare in registry.module_dict
    ]
    if not found and importlib.util.find_spec(bare) is None and not dot:
        return  # such as `nms=dict(type='nms')`, which is an operator's name
    if not found or not all(_LAYERS.match(module) for module in found):
        raise ValueError(f"type={name!r} may be more than a layer")
