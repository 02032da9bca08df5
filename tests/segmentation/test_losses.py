"""Losses against loops over pixels, with ignored labels."""

import math

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead
from mmseg.structures import SegDataSample
from torch import nn

from normfix_mm.segmentation import OHEMWeightedCrossEntropyLoss, WeightedCrossEntropyLoss

WEIGHTS = [0.5, 2.0, 1.0]


def pixels(logits, labels, ignore_index=255):
    """(probability of the label, label, place) of the pixels that count, in plain Python."""
    for n, i, j in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        label = int(labels[n, i, j])
        if label != ignore_index:
            scores = [math.exp(s) for s in logits[n, :, i, j].tolist()]
            yield scores[label] / sum(scores), label, (n, i, j)


def mean(chosen):
    total = sum(-math.log(p) * WEIGHTS[label] for p, label, _ in chosen)
    return total / sum(WEIGHTS[label] for _, label, _ in chosen)


def hard(chosen, thresh, min_kept):
    if len(chosen) <= min_kept:
        return chosen
    order = sorted(p for p, _, _ in chosen)
    threshold = max(thresh, order[min_kept - 1]) if min_kept else thresh
    return [pixel for pixel in chosen if pixel[0] <= threshold]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 7).mul(2).double().requires_grad_()
    labels = torch.randint(0, 3, (2, 5, 7))
    labels[torch.rand(labels.shape) < 0.3] = 255
    return logits, labels


@pytest.mark.parametrize("ignore_index", [255, 1])
def test_class_weights_and_ignored_pixels(batch, ignore_index):
    logits, labels = batch
    labels = labels.where(labels != 255, ignore_index)
    loss = WeightedCrossEntropyLoss(WEIGHTS, loss_weight=0.4)(
        logits, labels, ignore_index=ignore_index
    )
    expected = 0.4 * mean(list(pixels(logits, labels, ignore_index)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert (logits.grad.abs().sum(1) > 0).equal(labels != ignore_index)


def test_it_is_torchs_own_where_that_is_defined(batch):
    logits, labels = batch
    found = WeightedCrossEntropyLoss(WEIGHTS)(logits, labels)
    own = nn.CrossEntropyLoss(torch.tensor(WEIGHTS).double(), ignore_index=255)(logits, labels)
    torch.testing.assert_close(found.double(), own, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("thresh", "min_kept"), [(0.3, 5), (0.7, 5), (0.05, 20), (0.05, 45), (0.05, 10_000), (0.3, 0)]
)
def test_hard_pixels_of_the_whole_batch(batch, thresh, min_kept):
    logits, labels = batch
    chosen = hard(list(pixels(logits, labels)), thresh, min_kept)
    loss = OHEMWeightedCrossEntropyLoss(thresh, min_kept, class_weight=WEIGHTS)(logits, labels)
    assert loss.item() == pytest.approx(mean(chosen), rel=1e-5)
    loss.backward()
    learned = {tuple(place) for place in logits.grad.abs().sum(1).nonzero().tolist()}
    assert learned == {place for _, _, place in chosen}


def test_the_cases_above_choose_by_either_rule(batch):
    every = list(pixels(*batch))
    assert 5 < len(hard(every, 0.3, 5)) < len(hard(every, 0.7, 5)) < len(every)  # by threshold
    assert len(hard(every, 0.05, 20)) == 20  # by number
    assert len(hard(every, 0.05, 45)) == min(45, len(every))


@pytest.mark.parametrize(
    "loss", [WeightedCrossEntropyLoss(WEIGHTS), OHEMWeightedCrossEntropyLoss(class_weight=WEIGHTS)]
)
def test_a_batch_of_ignored_pixels_costs_nothing(loss):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0 and logits.grad.abs().max() == 0


def test_a_network_that_diverges_is_seen(batch):
    logits, labels = batch
    logits = logits.detach().clone()
    logits[0, :, 0, 0] = torch.nan
    labels[0, 0, 0] = 1
    for loss in (WeightedCrossEntropyLoss(), OHEMWeightedCrossEntropyLoss(min_kept=5)):
        assert loss(logits, labels).isnan()


def test_half_precision_is_averaged_in_single(batch):
    logits, labels = batch
    loss = WeightedCrossEntropyLoss(WEIGHTS)(logits.to(torch.bfloat16), labels)
    assert loss.dtype == torch.float32


def test_what_does_not_fit_is_said(batch):
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        WeightedCrossEntropyLoss([1.0, 2.0])(*batch)
    with pytest.raises(ValueError, match="No reduction 'sum'"):
        WeightedCrossEntropyLoss()(*batch, reduction_override="sum")


def head_loss(batch, **options):
    """Through MMSegmentation's own head and samples."""
    logits, labels = batch
    head = FCNHead(
        in_channels=3, channels=3, num_classes=3, num_convs=0, concat_input=False, **options
    )
    samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in labels]
    return head.loss_by_feat(logits, samples)


def test_in_a_head_of_mmsegmentation(batch):
    losses = head_loss(
        batch, loss_decode=dict(type="WeightedCrossEntropyLoss", class_weight=WEIGHTS)
    )
    assert losses["loss_ce"].item() == pytest.approx(mean(list(pixels(*batch))), rel=1e-5)


@pytest.mark.parametrize("thresh", [None, 0.4])
def test_with_mmsegmentations_sampler(batch, thresh):
    """Its weights choose pixels; the mean is over those. It keeps `min_kept` of each image."""
    logits, labels = batch
    losses = head_loss(
        batch,
        loss_decode=dict(type="WeightedCrossEntropyLoss", class_weight=WEIGHTS),
        sampler=dict(type="OHEMPixelSampler", thresh=thresh, min_kept=3),
    )
    every = list(pixels(logits, labels))
    if thresh is None:
        chosen = sorted(every, key=lambda p: math.log(p[0]) * WEIGHTS[p[1]])[:6]
    else:
        chosen = [p for p in every if p[0] < thresh]
        assert 6 < len(chosen) < len(every)
    assert losses["loss_ce"].item() == pytest.approx(mean(chosen), rel=1e-5)
