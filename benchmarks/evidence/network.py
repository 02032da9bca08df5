"""A ResNet of seven convolutions for 32 pixels, or the same of depthwise and 1×1 pairs."""

from __future__ import annotations

from torch import Tensor, nn

import normfix_mm as nf


class Block(nn.Module):
    """Two convolutions and a shortcut that pads channels and skips pixels."""

    def __init__(self, channels: int, out: int, stride: int, depthwise: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            conv(channels, out, stride, depthwise),
            conv(out, out, 1, depthwise),
        )
        self.stride, self.more = stride, out - channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.more:
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.more))
        return nn.functional.relu(self.conv2(nn.functional.relu(self.conv1(x))) + shortcut)


def conv(channels: int, out: int, stride: int, depthwise: bool) -> nn.Sequential:
    """3×3 and BN; or a depthwise 3×3 and a 1×1, each with BN."""
    if not depthwise:
        layers = [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)]
    else:
        layers = [
            nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, out, 1, bias=False),
            nn.BatchNorm2d(out),
        ]
    return nn.Sequential(*layers)


def build(form: str, classifier: dict, depthwise: bool, thin: bool) -> nn.Module:
    """The network.

    Args:
        form: of the convolutions: 'plain', 'WN' (without gain), 'WS' or 'CWN'.
        classifier: a rule for the classifier's form, empty for a plain one.
        depthwise: pairs of depthwise and 1×1 convolutions.
        thin: normalize depthwise convolutions too.
    """
    body = [conv(3, 16, 1, False), nn.ReLU()]
    blocks = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
    body += [Block(*block, depthwise) for block in blocks]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    if form != "plain":
        options = dict(gain=False) if form == "WN" else {}
        nf.normalize_layers(model, dict(form=form, depthwise=thin, **options))
    if classifier:
        nf.normalize_layers(model, dict(kind="linear", **classifier))
    return model
