"""Which weights of a model are what: the one table everybody reads.

The ε-shift, norm fixing, the optimizer constructor, the invariance check and the table printed
before training all select through this module, so they cannot disagree. Selection is by the type
of the layer that owns a weight, never by a tensor's shape: the reference code of the ε-shift
selects by shape and so also hits convolutions that are not standardized.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import UninitializedParameter
from torch.optim.swa_utils import AveragedModel

from normfix_mm.errors import listing
from normfix_mm.layers.base import NormalizedLayer
from normfix_mm.layers.gain import GainedLayer
from normfix_mm.layers.plain import is_deformable, mmcv_form

Patterns = str | Iterable[str] | None

# Layers that normalize activations; torch has had RMSNorm since 2.4.
NORMS: tuple[type[Any], ...] = (
    _NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    getattr(nn, "RMSNorm", nn.LayerNorm),
)


@dataclass(frozen=True, eq=False)
class WeightInfo:
    """One parameter of a model.

    Attributes:
        kind: 'conv', 'linear', 'norm', 'bias', 'gain' or 'other'.
        form: how the owning layer normalizes this weight: 'WS', 'WN', 'CWN', 'FixNorm', 'AWS'
            (mmcv's ConvAWS), or None for a weight that is used as it is.
        per_filter: whether that normalization is per output filter (else per layer).
    """

    name: str
    param: nn.Parameter
    module: nn.Module
    module_name: str
    kind: str
    form: str | None
    per_filter: bool


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel and the like, also mmengine's, and torch.compile."""
    while True:
        if isinstance(model, (DistributedDataParallel, nn.DataParallel, AveragedModel)):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model.get_submodule("_orig_mod")
        else:
            return model


def weights_of(model: nn.Module) -> list[WeightInfo]:
    """Every distinct parameter of the model, once, in `named_parameters` order."""
    infos, seen = [], set()
    for module_name, module in model.named_modules():
        for short, param in module.named_parameters(recurse=False):
            if param not in seen:
                seen.add(param)
                name = _joined(module_name, short)
                infos.append(_describe(name, param, module, module_name, short))
    return infos


def eps_shift_weights(
    model: nn.Module, include: Patterns = None, exclude: Patterns = None, frozen: bool = False
) -> list[WeightInfo]:
    """The weights the ε-shifted regularizer is for: normalized filter by filter.

    Args:
        model: names and patterns are those of the model itself, without DDP's "module.".
        frozen: also those that do not train at present.
    """
    model = unwrapped(model)
    unlike = _shared_unlike(model, lambda w: (w.form, w.per_filter))
    infos = [
        w
        for w in weights_of(model) + _computed(model)
        if (w.form and w.per_filter) or w.param in unlike
    ]
    infos = [w for w in infos if frozen or w.param.requires_grad]
    return _usable(filter_names(infos, include, exclude), unlike)


def norm_fix_weights(
    model: nn.Module,
    weights: str = "conv+classifier",
    include: Patterns = None,
    exclude: Patterns = None,
    frozen: bool = False,
) -> list[WeightInfo]:
    """The weights whose norm FixNorm fixes.

    Args:
        model: names and patterns are those of the model itself, without DDP's "module.".
        weights: 'conv' for the convolutions before the classifier (Algorithm 1; a plain convolution
            that classifies, as a stock RetinaHead's, counts as one, since nothing about it tells:
            leave it out with `exclude`), or
            'conv+classifier' for those and the weights of FixNorm and WNLinear layers. A plain
            linear layer is not scale-invariant and never takes part.
        frozen: also those that do not train at present.
    """
    if weights not in ("conv", "conv+classifier"):
        raise ValueError(f"Unknown weights={weights!r}; choose 'conv' or 'conv+classifier'.")
    model = unwrapped(model)
    infos = weights_of(model) + _computed(model)
    infos = [w for w in infos if frozen or w.param.requires_grad]
    # A word's embedding, say, that is a classifier's weight as well.
    unlike = _shared_unlike(model, lambda w: w.form is not None or w.kind == "conv")
    convs = [w for w in infos if w.kind == "conv" and w.form != "FixNorm"]
    if weights == "conv":
        return _usable(filter_names(convs, include, exclude), unlike)
    classifiers = [w for w in infos if w.form == "FixNorm" or (w.kind == "linear" and w.form)]
    chosen = {w.name for w in convs + classifiers}
    infos = [w for w in infos if w.name in chosen or w.param in unlike]
    return _usable(filter_names(infos, include, exclude), unlike)


def filter_names(
    infos: list[WeightInfo], include: Patterns = None, exclude: Patterns = None
) -> list[WeightInfo]:
    """Keep what `include` finds and `exclude` does not; regular expressions, searched in names.

    Raises:
        ValueError: no regular expression, or one that finds nothing, with the names there are.
    """

    def found(patterns: str | Iterable[str]) -> set[str]:
        names: set[str] = set()
        several: Any = patterns if isinstance(patterns, Iterable) else [patterns]
        for pattern in [patterns] if isinstance(patterns, str) else several:
            try:
                hits = {w.name for w in infos if re.search(pattern, w.name)}
            except (re.error, TypeError) as error:
                raise ValueError(
                    f"Pattern {pattern!r} is no regular expression ({error}); a bracket or another "
                    "special character that is meant as it stands takes a backslash before it."
                ) from None
            if not hits:
                raise ValueError(
                    f"Pattern {pattern!r} matches no weight; there are: {listing(infos)}."
                )
            names |= hits
        return names

    kept = {w.name for w in infos} if include is None else found(include)
    dropped = set() if exclude is None else found(exclude)
    return [w for w in infos if w.name in kept - dropped]


def _joined(module_name: str, short: str) -> str:
    return f"{module_name}.{short}" if module_name else short


def _computed(model: nn.Module) -> list[WeightInfo]:
    """Weights of layers that no parameter is: pruned, parametrized, or by torch's weight_norm."""
    infos = []
    for name, module in model.named_modules():
        layer = isinstance(module, (NormalizedLayer, _ConvNd, nn.Linear))
        if layer and "weight" not in module._parameters:
            sources = [p for n, p in module.named_parameters() if "weight" in n]
            if sources:
                source = next((p for p in sources if p.requires_grad), sources[0])
                infos.append(_describe(_joined(name, "weight"), source, module, name, "weight"))
    return infos


def _shared_unlike(model: nn.Module, use: Callable[[WeightInfo], Any]) -> dict[nn.Parameter, str]:
    """Weights that layers share of which `use` differs, with the layers' names."""
    uses: dict[nn.Parameter, dict[str, Any]] = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None:
            info = _describe(_joined(name, "weight"), weight, module, name, "weight")
            uses.setdefault(weight, {})[name] = use(info)
    return {p: listing(map(repr, u)) for p, u in uses.items() if len(set(u.values())) > 1}


def _usable(infos: list[WeightInfo], unlike: Mapping[nn.Parameter, str]) -> list[WeightInfo]:
    """The weights, if each is a parameter that its layers use in one way.

    Raises:
        ValueError: one that is not, which a treatment would pass over or edit in another form.
    """
    for w in infos:
        leave = f"or leave it out with exclude={re.escape(w.name)!r}"
        if isinstance(w.param, UninitializedParameter):
            raise ValueError(f"{w.name} has no weight yet: run the model once, {leave}.")
        if w.name.rpartition(".")[2] not in w.module._parameters:
            raise ValueError(
                f"{w.name} is computed (by pruning, a parametrization or torch's weight_norm), so "
                f"that no treatment can hold it: remove that first, {leave}."
            )
        if w.param in unlike:
            raise ValueError(
                f"{w.name} is shared by {unlike[w.param]}, which do not normalize it alike: give "
                f"each its own weight, {leave}."
            )
    return infos


def _describe(name, param, module, module_name, short) -> WeightInfo:
    form, per_filter = None, False
    if short == "weight":
        if isinstance(module, NormalizedLayer):
            form = module.form
            per_filter = not isinstance(module, GainedLayer) or module.gain_per_filter
        else:
            form = mmcv_form(module)
            per_filter = form is not None
    if isinstance(module, NORMS):
        kind = "norm"
    elif short == "g" and isinstance(module, GainedLayer):
        kind = "gain"
    elif short.endswith("bias") or short.startswith("bias_"):  # in_proj_bias; bias_ih_l0, bias_k
        kind = "bias"
    elif short == "weight" and (isinstance(module, _ConvNd) or is_deformable(module)):
        kind = "conv"
    elif short == "weight" and isinstance(module, nn.Linear):
        kind = "linear"
    else:
        kind = "other"
    return WeightInfo(name, param, module, module_name, kind, form, per_filter)
