"""A config for the commands, and one short run of it."""

import pytest
from helpers.small_command import CLASSES, write_config
from helpers.tool import call
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
    call("train.py", small, "--work-dir", work_dir)
    return work_dir
