"""Which weights are scale-invariant in MMDetection's own models, and what the check costs there."""

import copy
import warnings

import pytest
import torch
from analysis.model_state import assert_same_state, full_state

pytest.importorskip("mmdet")  # absent where torch is alone (`make test-matrix`)

from normfix_mm import find_scale_variant, normalize_layers
from normfix_mm.analysis import probe
from normfix_mm.analysis.invariance import measure_scale_variance
from normfix_mm.detection import NormalizedResNet
from normfix_mm.optim.weights import norm_fix_weights


def resnet50():
    from mmdet.models import ResNet

    torch.manual_seed(0)
    model = ResNet(50, base_channels=16, stem_channels=16, frozen_stages=-1, norm_eval=False)
    model.init_weights()  # zeroes the last BN of every residual branch
    return model


def test_resnet50_costs_at_most_three_forwards():
    model, images, calls = resnet50(), torch.randn(2, 3, 64, 64), []
    model.register_forward_hook(lambda *_: calls.append(1))
    before = full_state(model)
    found = find_scale_variant(model, lambda m: m(images), norm_fix_weights(model, "conv"))
    assert found == {}
    assert len(calls) <= 3
    assert_same_state(before, full_state(model))


def retinanet(norm_eval):
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules
    from mmengine.hub import get_config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        register_all_modules()
    torch.manual_seed(0)
    cfg = get_config("mmdet::retinanet/retinanet_r18_fpn_1x_coco.py").model
    cfg.backbone.update(init_cfg=None, frozen_stages=-1, norm_eval=norm_eval, base_channels=16)
    cfg.neck.update(in_channels=[16, 32, 64, 128], out_channels=32)
    cfg.bbox_head.update(in_channels=32, feat_channels=32)
    model = MODELS.build(cfg)
    model.init_weights()
    inputs = demo_mm_inputs(2, [[3, 64, 64], [3, 64, 64]], num_classes=80)
    return model, lambda m: m(**m.data_preprocessor(copy.deepcopy(inputs), True), mode="loss")


def test_retinanet_names_exactly_the_convolutions_without_norm():
    model, run = retinanet(norm_eval=False)
    before = full_state(model)
    report = measure_scale_variance(model, run)
    convs = {n for n, p in model.named_parameters() if p.dim() == 4}
    plain = {n for n in convs if not n.startswith("backbone.")}
    assert set(report.variant) == plain
    assert len(plain) == 18
    assert_same_state(before, full_state(model))

    normalize_layers(model, dict(form="WN", layers="neck|bbox_head", exclude="retina_cls"))
    normalize_layers(model, dict(form="FixNorm", layers="retina_cls", alpha=0.5))
    report = measure_scale_variance(model, run)
    assert report.variant == {}
    assert report.forwards <= 3


def test_retinanet_with_frozen_statistics_names_the_backbone_too(monkeypatch):
    monkeypatch.setattr(probe, "MOST_SCALED_ALONE", 4)  # for the time it takes
    model, run = retinanet(norm_eval=True)
    convs = {n for n, p in model.named_parameters() if p.dim() == 4}
    assert set(find_scale_variant(model, run)) == convs
    normalize_layers(model, dict(form="WN"))
    assert find_scale_variant(model, run) == {}


def test_activation_checkpointing_is_off_for_the_check_only():
    """It recomputes forwards in `backward()`, which `torch.autograd.grad` cannot take part in."""
    options = dict(depth=18, base_channels=8, stem_channels=8, norm_eval=True)
    found = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = NormalizedResNet(**options, with_cp=with_cp)
        images = torch.randn(4, 3, 48, 48)
        run = lambda net: [y.sin().mean() for y in net(images)]  # noqa: B023, E731
        found.append(find_scale_variant(model, run))
        assert {m.with_cp for m in model.modules() if hasattr(m, "with_cp")} == {with_cp}
    assert found == [{}, {}]
