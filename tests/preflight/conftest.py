"""The config that the tests of the preflight spoil, and its data."""

import copy
from functools import cache
from pathlib import Path

import pytest
from helpers.toy_coco import make_toy_coco, toy_options
from mmengine.config import Config
from preflight.toy_preflight import CLASSES, STOCK


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy_coco(tmp_path_factory.mktemp("toy"), CLASSES, n_images=1)


@pytest.fixture
def cfg(toy):
    return config_for(toy)


@pytest.fixture
def own(tmp_path) -> Path:
    """Four pictures for training and four for validation, of this test's own."""
    return make_toy_coco(tmp_path / "own", CLASSES)


@pytest.fixture
def own_cfg(own):
    """Without a schedule, whose warm-up would be longer than such a training."""
    cfg = config_for(own)
    cfg.param_scheduler = None
    return cfg


@cache
def stock() -> Config:
    return Config.fromstring(STOCK, ".py")


def config_for(root: Path) -> Config:
    cfg = copy.deepcopy(stock())
    cfg.merge_from_dict(toy_options(root))
    for phase in ("train", "val", "test"):
        cfg[f"{phase}_dataloader"].dataset.metainfo = dict(classes=CLASSES)
    return cfg
