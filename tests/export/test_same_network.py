"""The comparison behind folding: it sees what differs and is not misled by near-ties."""

import copy
import math
from pathlib import Path

import pytest
import torch
from helpers.small_detectors import config, trained_weights
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from normfix_mm.errors import BadInput
from normfix_mm.export import same_network
from normfix_mm.export.same_network import compare, compare_instances, difference


@pytest.fixture(scope="module")
def scope():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.fixture(scope="module")
def detector(scope, real_data):
    cfg = config("mask-fixnorm", real_data)
    return cfg, trained_weights(cfg)


@pytest.fixture
def image(real_data) -> Path:
    return min((real_data / "nuclei/images/val").iterdir())


def test_stages_are_those_that_the_detector_calls(detector, image):
    cfg, model = detector
    hooks = _hooks(model)
    lines, same = compare(model, copy.deepcopy(model), cfg, image)
    assert same and "30 boxes, 30 of the folded model, 0 without a counterpart" in lines[1]
    called = []
    with same_network.watched_stages(model, lambda name, *_: called.append(name)):
        same_network.run(model, same_network.load(cfg, image))
    assert called == [
        "backbone", "neck", "rpn_head", "roi_head.bbox_roi_extractor", "roi_head.bbox_head",
        "roi_head.mask_roi_extractor", "roi_head.mask_head",
    ]  # fmt: skip
    assert _hooks(model) == hooks


def _hooks(model):
    return [(list(m._forward_hooks), list(m._forward_pre_hooks)) for m in model.modules()]


@pytest.mark.parametrize(
    "stage", ["backbone.layer4.1.conv2", "neck.fpn_convs.3.conv", "rpn_head.rpn_reg",
              "roi_head.bbox_head.fc_cls", "roi_head.mask_head.conv_logits"],
)  # fmt: skip
def test_a_small_error_in_any_stage_is_seen_and_named(detector, image, stage):
    """One part in a thousand of a single layer, too little to move a box by a pixel."""
    cfg, model = detector
    other = copy.deepcopy(model)
    layer = other.get_submodule(stage)
    with torch.no_grad():
        layer.weight += 1e-3 * layer.weight.std() * torch.randn_like(layer.weight)
        layer.g *= 1  # or the gain would be stale
    lines, same = compare(model, other, cfg, image)
    wrong = stage.rsplit(".", 1)[0] if "roi_head" in stage else stage.split(".")[0]
    assert not same and f"stages on equal inputs: {wrong} differs most" in lines[0]


def test_a_difference_behind_the_stages_is_seen(detector, image):
    """Equal weights, another NMS: only the final boxes can tell."""
    cfg, model = detector
    other = copy.deepcopy(model)
    other.roi_head.test_cfg = copy.deepcopy(other.roi_head.test_cfg)
    other.roi_head.test_cfg.nms.iou_threshold = 0.3
    lines, same = compare(model, other, cfg, image)
    assert "relatively by 0.0e+00" in lines[0] and not same


def test_without_detections_the_threshold_is_dropped_and_said(detector, image):
    cfg, model = detector
    model = copy.deepcopy(model)
    model.roi_head.test_cfg.score_thr = 0.9999
    lines, same = compare(model, copy.deepcopy(model), cfg, image)
    assert same and "30 boxes" in lines[1] and "no score threshold" in lines[1]
    assert lines[0].startswith("7 stages")  # the mask head too, which needs boxes


def test_a_model_that_finds_no_box_is_not_called_another(detector, image):
    cfg, model = detector
    blind, other = copy.deepcopy(model), copy.deepcopy(model)
    blind.rpn_head.test_cfg = copy.deepcopy(blind.rpn_head.test_cfg)
    blind.rpn_head.test_cfg.min_bbox_size = 10_000  # leaves no proposal
    with pytest.raises(BadInput, match=rf"no box on {image}, .*all stages agree.*--image"):
        compare(blind, copy.deepcopy(blind), cfg, image)
    lines, same = compare(blind, other, cfg, image)
    assert not same and "30 boxes of the folded model where the trained one finds none" in lines[1]


def instances(count=100, masks=False, **changes):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * 300
    fields = dict(
        bboxes=torch.cat([corner, corner + 40], 1),
        scores=torch.linspace(0.9, 0.1, count),
        labels=torch.arange(count) % 3,
    )
    if masks:
        fields["masks"] = torch.rand(count, 20, 20, generator=generator) > 0.5
    return InstanceData(**fields | changes)


def test_boxes_are_compared_as_a_set():
    """Near-ties change the order, and one in fifty boxes; more is an error."""
    expected = instances(masks=True)
    text, same = compare_instances(expected[torch.randperm(100)], expected)
    assert same and "0 without" in text and "0 of 20082" in text and "mask pixels" in text
    text, same = compare_instances(expected[1:], expected)
    assert same and "1 without" in text
    text, same = compare_instances(expected[5:], expected)
    assert not same and "5 without" in text
    assert not compare_instances(expected[:0], expected)[1]
    assert not compare_instances(expected, expected[:0])[1]
    more = instances(110)
    more.scores = torch.cat([expected.scores, torch.full((10,), 0.01)])
    more.bboxes[:100] = expected.bboxes
    assert not compare_instances(more, instances())[1]


@pytest.mark.parametrize(
    ("field", "small", "large"), [("bboxes", 0.02, 0.2), ("scores", 5e-5, 5e-4), ("labels", 0, 1)]
)
def test_each_field_has_its_tolerance(field, small, large):
    expected = instances()
    assert compare_instances(instances(**{field: expected[field] + small}), expected)[1]
    assert not compare_instances(instances(**{field: expected[field] + large}), expected)[1]


def test_masks_have_a_tolerance():
    expected = instances(masks=True)
    few, many = expected.masks.clone(), expected.masks.clone()
    few[0, 0, :5] ^= True
    many[:, 0, :5] ^= True
    for masks, fine in ((few, True), (many, False)):
        found = instances()
        found.masks = masks
        assert compare_instances(found, expected)[1] is fine


@pytest.mark.parametrize(
    ("found", "expected", "value"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.1], [3.0, 4.0], 0.02),
        ([0.0, 0.5], [0.0, 0.0], 0.5),
        ([3.0, math.nan], [3.0, 4.0], math.inf),
        ([3.0, math.nan], [3.0, math.nan], math.inf),
        ([3.0], [3.0, 4.0], math.inf),
    ],
)
def test_difference_is_relative_and_never_blind(found, expected, value):
    assert difference(torch.tensor(found), torch.tensor(expected)) == pytest.approx(value, rel=1e-4)
