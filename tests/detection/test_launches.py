"""How many operators an iteration dispatches, as `benchmarks/launches.py` counts them."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def launches(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("launches")


def test_weight_normalization_alone_dispatches_little_more_than_the_stock_one(launches):
    """Without hooks, too, no layer keeps asking whether its gain is still fresh."""
    name = "retinanet/retinanet_r50_fpn_wn_8xb2-90k_coco"
    plain, ours = (launches.operators(cfg) for cfg in (launches.stock(name), launches.ours(name)))
    assert ours.total() <= 1.15 * plain.total()  # today 1.11


def test_retinanet_with_fixnorm_dispatches_little_more_than_the_stock_one(launches):
    """Today 1.13: one operator a direction for each of 60 weights, a dozen for the norm."""
    name = "retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco"
    plain, fixed = (launches.operators(cfg) for cfg in (launches.stock(name), launches.ours(name)))
    assert fixed.total() <= 1.15 * plain.total()
    own = {k: v for k, v in fixed.items() if k.startswith("normfix_mm.")}
    # 5 levels share the weights of the towers; the frozen stem and stage have no backward pass.
    assert own["normfix_mm.normalize.default"] == 70
    assert own["normfix_mm.normalize_backward.default"] == 59
    assert own["normfix_mm.normalize_layer.default"] == 1
    assert not any(k.startswith("normfix_mm.") for k in plain)
