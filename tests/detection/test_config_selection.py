"""Decay, ε-shift and norm fixing of every config of the papers cover exactly the right weights.

What is right follows from the modules of MMDetection's own model and from what the papers say,
not from the package's selection. Models are built without values, which takes no time.
"""

import copy
import math

import pytest
import torch
from detection.paper_configs import ROWS
from helpers.stock_models import with_values
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from normfix_mm import FixNormConv2d, FixNormLinear, WNConv2d, WNLinear, WSConv2d
from normfix_mm.layers.weight_norm import WNConvTranspose2d
from normfix_mm.optim.claims import claims

pytestmark = pytest.mark.slow

# FixNorm-FC and FixNorm-Conv take the place of the classifying layer (FixNorm, A.4.1).
CLASSIFIERS = ("retina_cls", "rpn_cls", "fc_cls", "conv_logits")
PLAIN = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)


def plain_type(layer: nn.Module) -> type:
    return next(kind for kind in PLAIN if isinstance(layer, kind))


def expected_layer(method: str, name: str, layer: nn.Module) -> type:
    """The class that this layer of the stock model must have under a method."""
    kind, classifier = plain_type(layer), name.rpartition(".")[2] in CLASSIFIERS
    if method == "fixnorm" and classifier:
        return {nn.Conv2d: FixNormConv2d, nn.Linear: FixNormLinear}[kind]
    if method in ("fixnorm", "wn"):
        # Whatever has no norm behind it (FixNorm, A.4.3), fully connected layers as well, as in SE
        # blocks (A.3). The backbone's BN is frozen and does not count.
        return {nn.Conv2d: WNConv2d, nn.Linear: WNLinear, nn.ConvTranspose2d: WNConvTranspose2d}[
            kind
        ]
    if method in ("ws", "ws-eps") and name.startswith("backbone."):
        return WSConv2d
    return type(layer)


def expected_treatment(row) -> dict[str, str]:
    """Name of each parameter to what it gets: 'frozen', 'decay', 'ε-shift', 'norm fixing', '-'."""
    stock = row.stock_model()
    layers = {n: m for n, m in stock.named_modules() if isinstance(m, PLAIN)}
    norms = [n for n, m in stock.named_modules() if isinstance(m, _BatchNorm)]
    trained = {n for n, p in stock.named_parameters() if p.requires_grad}
    if row.two_stage:  # γ and β are fixed (ε-shift, section 6.1)
        trained -= {f"{norm}.{p}" for norm in norms for p in ("weight", "bias")}
    everything = dict.fromkeys((n for n, _ in stock.named_parameters()), "frozen")
    everything |= dict.fromkeys(trained, "-" if row.method == "fixnorm" else "decay")
    for name in layers:
        treatment = everything[weight := f"{name}.weight"]
        if row.method in ("fixnorm", "wn"):
            everything[f"{name}.g"] = treatment
        if treatment == "frozen":
            continue
        if row.method == "fixnorm":
            everything[weight] = "norm fixing"
        elif row.method == "ws-eps" and name.startswith("backbone."):
            everything[weight] = "ε-shift"
    return everything


def build(row):
    """The config's whole model, optimizer wrapper and norm fixing."""
    config = row.config()
    with DefaultScope.overwrite_default_scope(config.default_scope):
        with torch.device("meta"):
            model = MODELS.build(copy.deepcopy(config.model))
        if row.method == "fixnorm":  # which needs a norm to start from
            model = with_values(model)
        wrapper = build_optim_wrapper(model, copy.deepcopy(config.optim_wrapper))
        hooks = [HOOKS.build(hook) for hook in config.get("custom_hooks", [])]
    fixes = [hook.attach(model, wrapper.optimizer) for hook in hooks if hasattr(hook, "attach")]
    return model, wrapper.optimizer, fixes


def treatments(model, optimizer, fixes) -> dict[str, str]:
    """What the optimizer and its step hooks hold, by name."""
    names = {p: n for n, p in model.named_parameters()}
    found = {n: "frozen" for n, p in model.named_parameters() if not p.requires_grad}
    for group in optimizer.param_groups:
        assert group["weight_decay"] in (0.0, 1e-4)
        for p in group["params"]:
            if p.requires_grad:
                found[names[p]] = "decay" if group["weight_decay"] else "-"
    special = {n: "norm fixing" for fix in fixes for n in fix.names}
    if hasattr(optimizer, "eps_shift"):
        infos = [i for i in optimizer.eps_shift.infos if i.param.requires_grad]  # others may thaw
        special |= {info.name: "ε-shift" for info in infos}
    assert set(special) == {names[p] for p in claims(optimizer) if p.requires_grad}
    assert all(found[name] == "-" for name in special), "decayed, frozen or not in the optimizer"
    return found | special


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_weight_gets_what_the_paper_gives_it(row):
    model, optimizer, fixes = build(row)
    stock = row.stock_model()
    layers = {n: m for n, m in stock.named_modules() if isinstance(m, PLAIN)}
    for name, layer in layers.items():
        got = model.get_submodule(name)
        assert type(got) is expected_layer(row.method, name, layer), name
        if hasattr(got, "cap"):
            alpha = 1.0 if row.two_stage else 0.5
            assert got.cap == pytest.approx(alpha * math.sqrt(len(layer.weight)))

    shapes = {n: p.shape for n, p in stock.named_parameters()}
    ours = {n: p.shape for n, p in model.named_parameters()}
    assert shapes.items() <= ours.items()
    expected, found = expected_treatment(row), treatments(model, optimizer, fixes)
    assert found.keys() == ours.keys()
    differ = {n: (found.get(n), t) for n, t in expected.items() if found.get(n) != t}
    assert differ == {} and found.keys() == expected.keys()


def test_the_expectation_is_not_empty():
    """Counts known from the architecture, so that no table above is right by being empty."""

    def count(folder: str, depth: int, method: str) -> dict[str, int]:
        row = next(r for r in ROWS if (r.folder, r.depth, r.method) == (folder, depth, method))
        values = list(expected_treatment(row).values())
        return {treatment: values.count(treatment) for treatment in set(values)}

    # 53 convolutions in a ResNet-50, of which 11 are in stem and first stage and frozen; FPN 8,
    # RPN 3, and 4 fully connected layers in each of the three heads.
    assert count("cascade_rcnn", 50, "fixnorm")["norm fixing"] == 42 + 8 + 3 + 3 * 4
    assert count("cascade_rcnn", 50, "ws-eps")["ε-shift"] == 42
    assert count("cascade_rcnn", 50, "ws-eps")["decay"] == 2 * (8 + 3 + 3 * 4)
    assert count("cascade_rcnn", 101, "ws-eps")["ε-shift"] == 42 + 17 * 3
    # four convolutions, upsampling and logits of the mask head
    assert count("mask_rcnn", 50, "fixnorm")["norm fixing"] == 42 + 8 + 3 + 4 + 6
    assert count("faster_rcnn", 50, "baseline") == {"frozen": 11 + 2 * 53, "decay": 42 + 2 * 15}
    # FPN 8, towers 8, predictors 2; weight, gain and (not in the backbone) bias
    assert count("retinanet", 50, "fixnorm")["norm fixing"] == 42 + 18
