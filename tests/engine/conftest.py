"""The engine's tests run MMDetection on a few small pictures."""

import pytest
import torch

pytest.importorskip("mmdet", reason="the engine's tests run MMDetection")

from engine.toy_run import CLASSES
from helpers.toy_coco import make_toy_coco


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    """A folder with eight landscape and four portrait pictures."""
    root = tmp_path_factory.mktemp("toy")
    make_toy_coco(root / "wide", CLASSES, n_images=8, size=(64, 48))
    make_toy_coco(root / "tall", CLASSES, n_images=4, size=(48, 64), seed=1)
    return root
