"""What folding prints ends with its conclusion in words."""

import pytest
import torch
from mmengine.config import Config
from PIL import Image

pytest.importorskip("mmpretrain")
from helpers.tool import call

from normfix_mm.models.build import build_model

TEXT = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['normfix_mm.classification'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[123., 116., 103.], std=[58., 57., 57.], to_rgb=True),
    backbone=dict(type='NormalizedResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='FixNormLinearClsHead', num_classes=5, in_channels=64, alpha=2.0,
              loss=dict(type='CrossEntropyLoss')))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
"""


def test_folding_concludes_in_words(tmp_path, capsys):
    config, weights, image = (tmp_path / name for name in ("m.py", "m.pth", "a.png"))
    config.write_text(TEXT)
    Image.new("RGB", (64, 48), (90, 120, 30)).save(image)
    cfg = Config.fromfile(config)
    model = build_model(cfg)
    model.init_weights()
    meta = dict(cfg=cfg.pretty_text)
    torch.save(dict(meta=meta, state_dict=model.state_dict()), weights)
    call("fold.py", config, weights, tmp_path / "deployed", "--image", image)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "the folded model computes the same as the trained one, but for rounding"
