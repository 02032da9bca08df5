"""What docs/own_head.md shows is run as it stands, for a head and a backbone that nobody knows."""

import re
from pathlib import Path

import pytest
import torch
from mmdet.models import ResNet
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from normfix_mm import FixNormConv2d, WNConv2d, WSConv2d
from normfix_mm.models import FixNorm

PAGE = Path(__file__).resolve().parents[2] / "docs/own_head.md"


def block(start: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (text for text in blocks if start in text)
    return found


class MyHead(BaseModule):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.tower = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls_layer = nn.Conv2d(channels, classes, 1)

    def forward(self, levels):
        return [self.cls_layer(self.tower(x).relu()) for x in levels]


class MyBackbone(ResNet):
    pass


@pytest.fixture(autouse=True)
def forget():
    yield
    for name in ("FixNormMyHead", "NormalizedMyBackbone"):
        MODELS.module_dict.pop(name, None)


def test_the_head_of_the_page_is_what_it_says():
    exec(block("class FixNormMyHead"), dict(MyHead=MyHead, MODELS=MODELS, FixNorm=FixNorm))
    torch.manual_seed(0)
    plain = MyHead(8, 3)
    head = MODELS.build(dict(type="FixNormMyHead", channels=8, classes=3, alpha=100.0))
    kinds = {name: type(layer) for name, layer in head.named_children()}
    assert kinds == dict(tower=WNConv2d, cls_layer=FixNormConv2d)
    assert head.cls_layer.cap == pytest.approx(100 * 3**0.5)
    assert set(head.state_dict()) == {*plain.state_dict(), "tower.g", "cls_layer.g"}
    head.load_state_dict(plain.state_dict(), strict=False)
    levels = [torch.randn(1, 8, size, size) for size in (8, 4)]
    for one, other in zip(head(levels), plain(levels)):
        torch.testing.assert_close(one, other)


def test_the_backbone_of_the_page_takes_the_rules_it_names():
    exec(block("normalized(MyBackbone)"), dict(MyBackbone=MyBackbone))
    for rule in (dict(form="WS"), [dict(form="WS")]):
        net = MODELS.build(
            dict(type="NormalizedMyBackbone", depth=18, base_channels=8, normalize=rule)
        )
        assert all(type(m) is WSConv2d for m in net.modules() if isinstance(m, nn.Conv2d))
