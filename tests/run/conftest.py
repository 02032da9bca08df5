"""A config for the commands, and one short run of it."""

import pytest
from helpers.processes import ended, start
from helpers.small_command import CLASSES, ROOT, write_config
from helpers.toy_coco import make_toy_coco


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    return make_toy_coco(tmp_path_factory.mktemp("coco"), CLASSES)


@pytest.fixture(scope="session")
def small(tmp_path_factory, toy):
    return write_config(tmp_path_factory.mktemp("config") / "small.py", toy)


@pytest.fixture(scope="session")
def trained(small, tmp_path_factory):
    """The work dir of a run of two iterations."""
    work_dir = tmp_path_factory.mktemp("run")
    status, lines = ended(start(ROOT / "tools/train.py", small, "--work-dir", work_dir))
    assert status == 0, "\n".join(lines[-20:])
    return work_dir
