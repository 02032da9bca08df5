"""The config that a checkpoint carries tells its form, and runs nothing."""

import os
import pickle
import sys

import pytest
from mmengine.config import Config

import normfix_mm.detection
import normfix_mm.segmentation  # noqa: F401
from normfix_mm.checkpoints.forms import model_forms
from normfix_mm.checkpoints.stored_config import model_of

WS = """
default_scope = 'mmseg'
custom_imports = dict(imports=['normfix_mm.segmentation'])
model = dict(
    type='NormalizedResNetV1c', depth=18, base_channels=8, stem_channels=8,
    normalize=dict(form='WS'), norm_cfg=dict(type='SyncBN'), pretrained='open-mmlab://resnet18_v1c')
"""


def test_a_config_of_ours_is_understood():
    forms = model_forms(model_of(Config.fromstring(WS, ".py").pretty_text))
    assert forms["stem.0.weight"] == "WS" and set(forms.values()) == {"WS"}


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """A file that is made by the pickle, the module and the config in a folder of the path."""
    file = tmp_path / "mark"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {file}",)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload()))
    (tmp_path / "evil_module.py").write_text(f"open({str(file)!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return file


@pytest.mark.parametrize(
    "model",
    [
        "dict(type='os.system', command='touch mark')",
        "dict(type='mmengine.load', file='evil.pkl')",
        "dict(type='mmengine.load', file='http://127.0.0.1:9/evil.pkl')",
        "dict(type='mmengine.fileio.load', file='evil.pkl')",
        "dict(type='evil_module')",
        "dict(type='mmdet.evil_module')",
        "dict(type='KnowledgeDistillationSingleStageDetector', teacher_config='evil_module.py')",
        "dict(type='CameraMotionCompensation', warp_mode='open(\"mark\", \"w\")')",
        "dict(type='mmdet.ResNet', depth=18, norm_cfg=dict(type='mmengine.load', file='evil.pkl'))",
        "dict(type='ResNet', depth=18, norm_cfg=dict(_scope_='evil_module', type='BN'))",
        "[open('mark', 'w')]",
        "dict(type=open('mark', 'w'))",
    ],
)
def test_a_config_that_would_do_more_is_no_evidence(model, mark):
    assert model_of(f"default_scope = 'mmdet'\nmodel = {model}") is None
    assert not mark.exists() and "evil_module" not in sys.modules


def test_nor_are_foreign_imports_or_scopes(mark):
    assert model_of(WS.replace("normfix_mm.segmentation", "evil_module")) is not None
    assert model_of(WS.replace("'mmseg'", "'evil_module'")) is None
    assert not mark.exists()
