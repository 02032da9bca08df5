"""What of timm's network is trained, by its weights and statistics after a step of training."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor

import normfix_mm.classification  # noqa: F401  registers the backbone
from normfix_mm.errors import BadInput

pytest.importorskip("timm")
FIRST = ("conv_stem", "bn1", "blocks.0", "blocks.1")  # stem and two stages


def after_a_step(**options) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and statistics of a network before and after a step of SGD in training mode."""
    torch.manual_seed(0)
    cfg = dict(type="mmpretrain.NormalizedTIMMBackbone", model_name="tf_efficientnet_lite0")
    cfg |= dict(normalize=dict(), features_only=True, out_indices=(1, 2))
    network = MODELS.build(cfg | options)
    before = {name: value.clone() for name, value in network.timm_model.state_dict().items()}
    network.train()
    sum(out.square().mean() for out in network(torch.rand(2, 3, 64, 64))).backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    torch.optim.SGD(trained, lr=0.1).step()
    return before, network.timm_model.state_dict()


def changed(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> set[str]:
    """Names with this part in them whose values are no longer the same."""
    return {n for n in before if part in n and not torch.equal(before[n], after[n])}


@pytest.mark.parametrize("form", [dict(), dict(form="WN", gain=True)], ids=["plain", "WN"])
def test_frozen_stages_neither_learn_nor_count_and_the_others_do(form):
    before, after = after_a_step(frozen_stages=3, normalize=form)
    for part in (".weight", ".bias", "running_mean", "running_var", *([".g"] if form else [])):
        moved = changed(before, after, part)
        assert not {name for name in moved if name.startswith(FIRST)}
        assert {name for name in moved if name.startswith("blocks.2")}, part


def test_norm_eval_keeps_every_statistic_while_the_weights_learn():
    before, after = after_a_step(norm_eval=True)
    assert not changed(before, after, "running_") and changed(before, after, "bn1.weight")
    before, after = after_a_step()
    assert changed(before, after, "blocks.2.0.bn1.running_mean")


@pytest.mark.parametrize("count", [-1, 9])
def test_more_stages_than_there_are_cannot_be_frozen(count):
    with pytest.raises(BadInput, match=rf"frozen_stages={count} needs a timm network"):
        after_a_step(frozen_stages=count)
