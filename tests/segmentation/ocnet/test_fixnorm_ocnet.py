"""FixNorm on OCNet: which weights must not be fixed as they are, and what is done about them.

Nothing normalizes what f_value and W give: Base-OC and Pyramid-OC put it beside the input of the
next layer, whose share of the sum then changes. While W is zero this cannot be seen in any output.
"""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from segmentation.ocnet.small_ocnets import NARROW, narrow_ocnet, ocnet_config, samples
from torch import nn

from normfix_mm import NormFix
from normfix_mm.engine.hooks.invariance_check import ScaleVariantWeights, check_scale_invariance
from normfix_mm.optim.weights import norm_fix_weights
from normfix_mm.segmentation import FixNormFCNHead, FixNormOCHead

pytestmark = pytest.mark.slow

CLASSES = 5
CONTEXTS = ("base", "asp", "pyramid")


def fixnorm_ocnet(context: str) -> nn.Module:
    cfg = ocnet_config(context, classes=CLASSES, channels=24, backbone=NARROW)
    cfg["decode_head"].update(type="FixNormOCHead", alpha=1.0)
    cfg["auxiliary_head"].update(type="FixNormFCNHead", alpha=1.0)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(cfg)
    model.init_weights()
    return model


def batch():
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 65, 97, generator=noise)
    labels = torch.randint(0, CLASSES, (2, 65, 97), generator=noise)
    labels[:, :2] = 255
    return images, labels


def judged(model: nn.Module, names: list[str], only_warn: bool = True) -> dict[str, float]:
    """As the hook does it, on a batch as the train dataloader gives it."""
    images, labels = batch()
    model.data_preprocessor.size = tuple(images.shape[2:])
    data = dict(inputs=list(images), data_samples=samples(labels))
    return check_scale_invariance(model, data, names, only_warn)


def convolutions(model: nn.Module) -> list[str]:
    return [f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]


def bare(model: nn.Module) -> set[str]:
    return {n for n in convolutions(model) if n.split(".")[-2] in ("f_value", "W", "conv_seg")}


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("context", ["base", "pyramid"])
def test_the_check_names_what_has_no_norm_behind_it(context, zero):
    model = narrow_ocnet(context, dropout_ratio=0)
    model.init_weights()
    for name, param in model.named_parameters():
        if ".W." in name and not zero:
            nn.init.normal_(param, std=0.1)
        assert ".W." not in name or param.any() != zero
    found = set(judged(model, convolutions(model)))
    assert found == bare(model) and len(found) == (4 if context == "base" else 10)
    assert all(p.any() != zero for n, p in model.named_parameters() if ".W." in n)


def test_the_run_is_stopped_with_the_remedy():
    model = narrow_ocnet("base")
    model.init_weights()
    with pytest.raises(ScaleVariantWeights, match=r"f_value\.weight.*normalize the layer itself"):
        judged(model, convolutions(model), only_warn=False)


@pytest.mark.parametrize("context", CONTEXTS)
def test_fixnorm_starts_from_the_same_function(context):
    stock, ours = narrow_ocnet(context), fixnorm_ocnet(context)
    stock.load_state_dict(
        {k: v for k, v in ours.state_dict().items() if not k.endswith((".g", ".W.weight"))},
        strict=False,
    )
    assert not any(p.any() for n, p in stock.named_parameters() if ".W." in n)
    assert all(p.any() for n, p in ours.named_parameters() if n.endswith(".W.weight"))
    images, labels = batch()
    losses = []
    for model in (stock, ours):
        torch.manual_seed(3)  # of the dropout
        losses.append(model.train().loss(images, samples(labels)))
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_norm_may_be_fixed_and_the_context_learns(context):
    model = fixnorm_ocnet(context)
    assert type(model.decode_head) is FixNormOCHead
    assert type(model.auxiliary_head) is FixNormFCNHead
    names = [info.name for info in norm_fix_weights(model)]
    assert set(names) == set(convolutions(model))
    assert judged(model, names) == {}
    model.double()  # the first changes are small
    nn.init.normal_(model.decode_head.conv_seg.weight)
    layers = [m for n, m in model.named_modules() if n.endswith(".W")]
    before = [m.weight.detach().clone() for m in layers]
    assert layers and all(not m.normalized_weight().any() for m in layers)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    norm_fix = NormFix(optimizer, model)
    target = norm_fix.joint_norm()
    images, labels = batch()
    images = images.double()
    for _ in range(10):  # g first: W's direction gets its gradient through it
        losses = model.loss(images, samples(labels))
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if "loss" in name).backward()
        optimizer.step()
    weights = [p.detach().double().flatten() for n, p in model.named_parameters() if n in names]
    assert torch.cat(weights).norm().item() == pytest.approx(float(target), rel=1e-6)
    for layer, start in zip(layers, before):
        assert layer.g.abs().min() > 0 and layer.normalized_weight().any()
        now, then = (nn.functional.normalize(w.flatten(1), dim=1) for w in (layer.weight, start))
        assert (now - then).norm(dim=1).min() > 1e-10
    assert judged(model.float(), names) == {}
