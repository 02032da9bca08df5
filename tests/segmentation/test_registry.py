"""What ``normfix_mm.segmentation`` registers, and what it says without MMSegmentation."""

import importlib
import sys

import pytest
from mmengine.registry import MODELS

import normfix_mm.segmentation as segmentation


@pytest.mark.parametrize(
    "name",
    ["DilatedResNetV1c", "OCHead", "OHEMWeightedCrossEntropyLoss", "WeightedCrossEntropyLoss"],
)
def test_types_are_in_the_root_registry(name):
    assert MODELS.module_dict[name] is getattr(segmentation, name)


def test_without_mmsegmentation_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmseg.models", None)  # as if it were not installed
    with pytest.raises(ImportError) as caught:
        importlib.reload(segmentation)
    message = str(caught.value)
    assert message.startswith("normfix_mm.segmentation needs MMSegmentation and mmcv")
    assert "python -m normfix_mm.check_env" in message and "\n" not in message
    assert caught.value.__suppress_context__
