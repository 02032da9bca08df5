"""MMPretrain's registries are the ones that these tests build from, whatever ran before them."""

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield
