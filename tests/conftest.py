"""Fixtures that every folder of tests may use."""

import functools
import gc
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

REPOSITORY = Path(__file__).resolve().parents[1]

# yapf, with which mmengine lays out configs, writes its grammar to the home when it is first
# imported, and a second process may find the file still empty. This import runs before the
# processes of the tests are started.
if find_spec("yapf") is not None:
    import yapf.yapflib.yapf_api


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this environment lacks something for, and begin with the files of slow tests.

    A file's tests run in one process (``--dist loadfile``), so its fixtures are made once; the
    quick files at the end keep all processes busy.
    """
    for item in items:
        for reason in _lacks(item):
            item.add_marker(pytest.mark.skip(reason=reason))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What is imported stays, so nothing is gained by looking through it for garbage.

    mmengine collects at each dataset that it builds, half a second with all frameworks loaded.
    """
    gc.freeze()


def _lacks(item: pytest.Item) -> Iterator[str]:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        yield "needs a CUDA device"
    for mark in item.iter_markers("needs"):
        if find_spec(mark.args[0]) is None:
            yield f"needs {mark.args[0]}"
    for mark in item.iter_markers("since_torch"):
        version, what = mark.args
        if TorchVersion(torch.__version__) < version:
            yield f"torch {version} brought {what}, here is {torch.__version__}"


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the preflight remembers of files goes to a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORMFIX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _mmengine_repeats_less() -> Iterator[None]:
    """What mmengine does over and over, and what no test looks at."""
    if find_spec("mmengine") is None:
        yield
        return
    from mmengine.config import config

    with pytest.MonkeyPatch.context() as patch:
        # Each run has yapf lay out its config five times, half a second each.
        patch.setattr(yapf.yapflib.yapf_api, "FormatCode", lambda text, **_: (text, False))
        # Each base in another package reads all of that package's metafiles.
        found = functools.cache(config._get_external_cfg_path)
        patch.setattr(config, "_get_external_cfg_path", found)
        # A logger outlives the test whose captured output it writes to; each message to the closed
        # stream would cost a traceback.
        patch.setattr(logging, "raiseExceptions", False)
        yield


@pytest.fixture(autouse=True, scope="module")
def _default_scope() -> Iterator[None]:
    """Each file begins without a default scope.

    A Runner sets its own for the whole process and leaves it there, and a detector that a later
    file builds without naming a scope would be looked for among MMSegmentation's.
    """
    if find_spec("mmengine") is None:
        yield
        return
    from mmengine.registry import DefaultScope

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefaultScope, "_instance_dict", OrderedDict())
        yield


@pytest.fixture(autouse=True)
def _no_run_takes_over_another_s_logger() -> Iterator[None]:
    """What a Runner registers under its name is forgotten with the test.

    The name is the config's and the time in seconds. A second Runner of that name in the same
    process would be given the first one's logger, with its level and its file, and so for its
    messages and its visualizer.
    """
    if find_spec("mmengine") is None:
        yield
        return
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.visualization import Visualizer

    with pytest.MonkeyPatch.context() as patch:
        for manager in (MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):
            patch.setattr(manager, "_instance_dict", manager._instance_dict.copy())
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
