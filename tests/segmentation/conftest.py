"""Segmenters run under MMSegmentation's scope; the tests after them have theirs back."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(scope="module", autouse=True)
def _scope():
    """A Runner sets the default scope of the whole process."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield
