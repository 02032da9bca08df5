"""Fixtures that every folder of tests may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a GPU, what is marked `gpu` is skipped and says why."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the preflight remembers of files goes to a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORMFIX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real image sets: ``$NORMFIX_DATA`` or ``../shared/data`` beside the checkout.

    A stranger's clone has none, and the test is skipped; continuous integration has them, so there
    a missing folder is a failure.
    """
    named = os.environ.get("NORMFIX_DATA")
    beside = REPOSITORY.parent / "shared"
    folder = Path(named) if named else beside / "data"
    if folder.is_dir():
        return folder
    reason = f"no real images at {folder}: set NORMFIX_DATA to the folder that holds bccd/"
    if named or (os.environ.get("CI", "").lower() in ("1", "true") and beside.is_dir()):
        pytest.fail(reason)
    pytest.skip(reason)
