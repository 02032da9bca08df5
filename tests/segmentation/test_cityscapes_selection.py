"""Decay and norm fixing of every Cityscapes config cover exactly the right weights.

What is right follows from OCNet's published structure and the papers' sentences, not from the
package's selection: with FixNorm all convolutions and the classifiers are in the fixed norm and
nothing decays; without, everything decays.
"""

import copy

import pytest
import torch
from helpers.stock_models import with_values
from mmengine.model.utils import convert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope
from segmentation.ocnet_configs import ROWS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from normfix_mm import FixNormConv2d, WNConv2d
from normfix_mm.optim.claims import claims

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
CLASSIFIERS = ("decode_head.conv_seg", "auxiliary_head.conv_seg")
WITHOUT_NORM = tuple(f"decode_head.context.context.{name}" for name in ("f_value", "W"))


def build(row):
    """The config's whole model, with values only where norm fixing needs them, and optimizer."""
    config = row.config()
    with DefaultScope.overwrite_default_scope("mmseg"):
        with torch.device("meta"):
            model = MODELS.build(copy.deepcopy(config.model))
        if row.method == "fixnorm":
            model = with_values(model)
        wrapper = build_optim_wrapper(model, copy.deepcopy(config.optim_wrapper))
        hooks = [HOOKS.build(hook) for hook in config.get("custom_hooks", [])]
    return model, wrapper.optimizer, hooks


@every_row
def test_every_weight_gets_what_the_paper_gives_it(row):
    model, optimizer, hooks = build(row)
    fixes = [hook.attach(model, optimizer) for hook in hooks if hasattr(hook, "attach")]
    names = {p: n for n, p in model.named_parameters()}
    assert all(p.requires_grad for p in names)
    decays = {names[p]: group["weight_decay"] for group in optimizer.param_groups
              for p in group["params"]}  # fmt: skip
    assert decays.keys() == set(names.values())
    assert set(decays.values()) == {0.0 if row.method == "fixnorm" else 5e-4}
    convs = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    # 3 of the stem, 3 in each of 33 blocks, 4 that downsample; the heads of the context.
    head = {"base": 6, "asp": 12, "pyramid": 4 + 4 * 3}[row.context]
    assert len(convs) == 3 + 33 * 3 + 4 + head + 2
    if row.method != "fixnorm":
        assert not fixes and not claims(optimizer)
        assert not [m for m in model.modules() if isinstance(m, FixNormConv2d | WNConv2d)]
        return
    (fix,) = fixes
    assert set(fix.names) == {f"{name}.weight" for name in convs}
    for name in convs:
        layer = model.get_submodule(name)
        kind = {
            **dict.fromkeys(CLASSIFIERS, FixNormConv2d),
            **dict.fromkeys(WITHOUT_NORM, WNConv2d),
        }
        assert type(layer) is kind.get(name, nn.Conv2d), name
        if name in CLASSIFIERS:
            assert layer.cap == pytest.approx(19**0.5)  # alpha = 1


@every_row
def test_parameters_are_the_published_number(row):
    model, _, _ = build(row)
    parts = [model.backbone, model.decode_head, model.auxiliary_head]
    count = [sum(p.numel() for p in part.parameters()) for part in parts]
    # What is not the original's: no biases before a norm (some thousand), a gain here and there.
    total = {"base": 57.72e6, "asp": 62.54e6, "pyramid": 62.58e6}[row.context]
    assert sum(count) == pytest.approx(total, abs=0.01e6)
    if row.context == "base":
        assert [n / 1e6 for n in count] == pytest.approx([42.62, 10.37, 4.73], abs=0.01)


@pytest.mark.parametrize("row", [ROWS[0], ROWS[2]], ids=lambda row: row.name)
def test_synchronized_bn_holds_the_same_parameters(row):
    """The Runner converts before the optimizer is built; what a hook takes by name stays."""
    model, _, _ = build(row)
    before = dict(model.named_parameters())
    converted = convert_sync_batchnorm(model, row.config().sync_bn)
    norms = [m for m in converted.modules() if isinstance(m, _BatchNorm)]
    assert len(norms) > 100 and {type(m) for m in norms} == {nn.SyncBatchNorm}
    after = dict(converted.named_parameters())
    assert after.keys() == before.keys() and all(after[n] is before[n] for n in after)
