"""Names of other libraries to MMDetection's: the renamed network is the same function.

The networks below have the other libraries' module names. (Once, by hand, the sources were compared
with real models of torchvision 0.29, timm 1.0 and MMPretrain 1.3, which tests do without.)
"""

import pytest
import torch
from mmdet.models.backbones import MobileNetV2, ResNet, ResNetV1d, ResNeXt
from torch import nn

from normfix_mm.convert.sources import SOURCES, detect, rename
from normfix_mm.errors import BadInput


def conv_bn(into, out, size=1, stride=1, groups=1, relu=True):
    layers = [nn.Conv2d(into, out, size, stride, size // 2, groups=groups, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(out), *([nn.ReLU6()] if relu else []))


class InvertedResidual(nn.Module):
    """torchvision's names: conv.0.0 ... conv.3."""

    def __init__(self, into, out, stride, expand):
        super().__init__()
        wide, layers = into * expand, []
        if expand > 1:
            layers.append(conv_bn(into, wide))
        layers.append(conv_bn(wide, wide, 3, stride, wide))
        self.conv = nn.Sequential(*layers, *conv_bn(wide, out, relu=False))
        self.adds = stride == 1 and into == out

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


def torchvision_mobilenet():
    layers, into = [conv_bn(3, 32, 3, 2)], 32
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
    for expand, out, count, stride in [*table, (6, 160, 3, 2), (6, 320, 1, 1)]:
        for i in range(count):
            layers.append(InvertedResidual(into, out, stride if i == 0 else 1, expand))
            into = out
    model = nn.Module()
    model.features = nn.Sequential(*layers, conv_bn(320, 1280))
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 10))
    return model, model.features


class AbsoluteGammaNorm(nn.BatchNorm2d):
    """InPlaceABN without its activation."""

    def forward(self, x):
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight.abs() + 1e-5, self.bias
        )


def renamed(model, names):
    """The modules of `model` under other names (name to name; the rest keeps its own)."""
    root = nn.Module()
    moved = {old: new for old, new in names}
    for name, module in model.named_modules():
        if not list(module.children()) and list(module.state_dict()):
            old = next((o for o in moved if f"{name}.".startswith(f"{o}.")), None)
            target = name if old is None else moved[old] + name[len(old) :]
            parent, *path = root, *target.split(".")
            for step in path[:-1]:
                if not hasattr(parent, step):
                    parent.add_module(step, nn.Module())
                parent = getattr(parent, step)
            parent.add_module(path[-1], module)
    return root


def deep_stem(convs, norms, norm=nn.BatchNorm2d):
    """A bottleneck network whose stem has the given names, and whose norms are `norm`."""
    body = ResNet(**DEEP)
    for name, module in list(body.named_modules()):
        if type(module) is not norm and isinstance(module, nn.BatchNorm2d):
            parent, _, leaf = name.rpartition(".")
            setattr(body.get_submodule(parent), leaf, norm(module.num_features))
    names = [(f"stem.{i}", name) for i, name in zip((0, 3, 6), convs, strict=True)]
    names += [(f"stem.{i}", name) for i, name in zip((1, 4, 7), norms, strict=True)]
    return renamed(body, names), lambda x: body(x)[-1]


def of_mmpretrain(body, names):
    model = nn.Module()
    model.backbone, model.head = renamed(body, names), nn.Sequential(nn.Linear(4, 4))
    return model, lambda x: body(x)[-1]


MODULE_STEM = [(f"stem.{3 * i}", f"stem.{i}.conv") for i in range(3)]
MODULE_STEM += [(f"stem.{3 * i + 1}", f"stem.{i}.bn") for i in range(3)]
UNPOOLED = [(f"layer1.0.downsample.{i}", f"layer1.0.downsample.{i - 1}") for i in (1, 2)]


def mmpretrain_mobilenet():
    body = MobileNetV2(out_indices=(7,))
    names = []
    for name, _ in body.named_modules():
        block, _, kind = name.rpartition(".")
        order = ["depthwise_conv", "linear_conv"]
        order = order if block == "layer1.0" else ["expand_conv", *order]
        if kind in order:
            names.append((name, f"{block}.conv.{order.index(kind)}"))
    return of_mmpretrain(body, names)


def ocnet():
    stem = [f"conv{i}" for i in (1, 2, 3)], [f"bn{i}" for i in (1, 2, 3)]
    model, forward = deep_stem(*stem, AbsoluteGammaNorm)
    model.dsn = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    return model, forward


def imagenet_stem():
    model, forward = deep_stem([f"conv{i}" for i in (1, 2, 3)], [f"bn{i}" for i in (1, 2, 3)])
    model.fc = nn.Linear(8, 8)
    return model, forward


def timm_deep_stem():
    model, forward = deep_stem(["conv1.0", "conv1.3", "conv1.6"], ["conv1.1", "conv1.4", "bn1"])
    model.fc = nn.Linear(8, 8)
    return model, forward


def of_mmdet(backbone):
    return backbone, lambda x: backbone(x)[-1]


NARROW = dict(base_channels=8, stem_channels=16)
DEEP = dict(depth=50, deep_stem=True, **NARROW)
CASES = {
    "torchvision-mobilenetv2": (torchvision_mobilenet, lambda: MobileNetV2(out_indices=(7,))),
    "ocnet": (ocnet, lambda: ResNet(**DEEP)),
    "named-stem": (imagenet_stem, lambda: ResNet(**DEEP)),
    "timm-deep-stem": (timm_deep_stem, lambda: ResNet(**DEEP)),
    "mmpretrain-resnetv1d": (
        lambda: of_mmpretrain(ResNetV1d(depth=50, **NARROW), MODULE_STEM + UNPOOLED),
        lambda: ResNetV1d(depth=50, **NARROW),
    ),
    "mmpretrain": (mmpretrain_mobilenet, lambda: MobileNetV2(out_indices=(7,))),
    "mmpretrain deep stem": (
        lambda: of_mmpretrain(ResNet(**DEEP), MODULE_STEM),
        lambda: ResNet(**DEEP),
    ),
    "resnet": (
        lambda: of_mmdet(ResNeXt(depth=50, groups=4, base_width=4, base_channels=16)),
        lambda: ResNeXt(depth=50, groups=4, base_width=4, base_channels=16),
    ),
    "openmmlab-backbone": (
        lambda: of_mmdet(ResNetV1d(depth=18, **NARROW)),
        lambda: ResNetV1d(depth=18, **NARROW),
    ),
}


def randomize(model):
    """Statistics that are not trivial, and gammas of both signs."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    model.eval()


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_the_renamed_network_is_the_same_function(case):
    torch.manual_seed(0)
    (theirs, forward), ours = CASES[case][0](), CASES[case][1]()
    randomize(theirs)
    ours.eval()
    state = theirs.state_dict()
    name = detect(state)
    assert case.startswith(name)
    rows = rename(state, SOURCES[name], "backbone")
    assert [row.old for row in rows] == list(state)
    left = {row.old.split(".")[0] for row in rows if row.new is None}
    assert left <= {"fc", "classifier", "head", "dsn"}
    values = SOURCES[name].values(state)
    ours.load_state_dict({row.new: values[row.old] for row in rows if row.new}, strict=True)
    x = torch.randn(1, 3, 64, 64)
    expected, found = forward(x), ours(x)[-1]
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [  # as timm 1.0 and mmdet print them; both blocks have these shapes
        ("conv_stem.weight", "conv1.conv.weight"),
        ("bn1.running_var", "conv1.bn.running_var"),
        ("blocks.0.0.conv_dw.weight", "layer1.0.depthwise_conv.conv.weight"),
        ("blocks.0.0.conv_pw.weight", "layer1.0.linear_conv.conv.weight"),
        ("blocks.0.0.bn2.bias", "layer1.0.linear_conv.bn.bias"),
        ("blocks.3.2.conv_pw.weight", "layer4.2.expand_conv.conv.weight"),
        ("blocks.3.2.bn1.bias", "layer4.2.expand_conv.bn.bias"),
        ("blocks.3.2.bn2.bias", "layer4.2.depthwise_conv.bn.bias"),
        ("blocks.3.2.conv_pwl.weight", "layer4.2.linear_conv.conv.weight"),
        ("blocks.6.0.bn3.bias", "layer7.0.linear_conv.bn.bias"),
        ("conv_head.weight", "conv2.conv.weight"),
        ("bn2.weight", "conv2.bn.weight"),
        ("classifier.weight", None),
    ],
)
def test_names_of_timms_mobilenet(theirs, ours):
    (row,) = rename({theirs: torch.ones(1)}, SOURCES["timm-mobilenetv2"], None)
    assert row.new == ours
    if ours:
        with torch.device("meta"):
            assert ours in MobileNetV2().state_dict()


def blocks(*counts):
    keys = [f"blocks.{s}.{b}.conv_pw.weight" for s, n in enumerate(counts) for b in range(n)]
    return dict.fromkeys(["conv_stem.weight", *keys], torch.ones(1))


def test_efficientnets_are_not_taken_for_mobilenets():
    assert detect(blocks(1, 2, 3, 4, 3, 3, 1)) == "timm-mobilenetv2"
    with pytest.raises(BadInput, match="known source"):
        detect(blocks(1, 2, 2, 3, 3, 4, 1))  # efficientnet_lite0


def test_parts_of_a_detector():
    state = {f"{part}.weight": torch.ones(1) for part in ("backbone.a", "neck.b", "bbox_head.c")}
    source = SOURCES[detect(state)]
    assert [row.new for row in rename(state, source, None)] == list(state)
    rows = rename(state, source, "neck")
    assert [(row.old, row.new, row.why) for row in rows] == [
        ("backbone.a.weight", None, "not in the neck"),
        ("neck.b.weight", "b.weight", ""),
        ("bbox_head.c.weight", None, "not in the neck"),
    ]
    with pytest.raises(BadInput, match="no part 'roi_head' but backbone, bbox_head, neck"):
        rename(state, source, "roi_head")
    with pytest.raises(BadInput, match="which has no 'neck' but a backbone"):
        rename(state, SOURCES["resnet"], "neck")
