"""OCHead and its backbone: published sizes and parameters, any input, what training starts from."""

import copy

import numpy as np
import pytest
import torch
from segmentation.ocnet.published_ocnet import Published
from segmentation.ocnet.small_ocnets import NARROW, build, narrow_ocnet, ocnet_config, samples
from torch import nn

from normfix_mm.export.to_onnx.segmenters import traceable
from normfix_mm.export.to_onnx.write import OPSET
from normfix_mm.segmentation import DilatedResNetV1c, OCHead

CONTEXTS = ("base", "asp", "pyramid")


@pytest.mark.parametrize(
    ("context", "millions"), [("base", 57.72), ("asp", 62.54), ("pyramid", 62.58)]
)
def test_parameters_of_the_whole_r101(context, millions):
    """As published, and one by one: all but the biases that a norm takes away again."""
    with torch.device("meta"):
        model = build(ocnet_config(context))
        published = Published(context, blocks=(3, 4, 23, 3))
        published(torch.empty(1, 3, 64, 64))
    sizes = {name: published.state[name].numel() for name in published.parameters()}
    needless = [n for n in sizes if n.endswith(".0.bias")]
    count = sum(p.numel() for p in model.parameters())
    assert round(count / 1e6, 2) == round(sum(sizes.values()) / 1e6, 2) == millions
    assert count == sum(size for name, size in sizes.items() if name not in needless)
    assert len(list(model.parameters())) == len(sizes) - len(needless)


def test_parameters_of_base_ocs_parts():
    with torch.device("meta"):
        model = build(ocnet_config("base"))
    parts = model.backbone, model.decode_head, model.auxiliary_head
    counts = [round(sum(p.numel() for p in part.parameters()) / 1e6, 2) for part in parts]
    assert counts == [42.62, 10.37, 4.73]


@pytest.mark.parametrize(
    ("image", "features"), [((769, 769), (97, 97)), ((1024, 2048), (129, 257))]
)
def test_feature_sizes_of_the_paper(image, features):
    with torch.device("meta"):
        outputs = DilatedResNetV1c(**NARROW)(torch.empty(1, 3, *image))
    assert [tuple(x.shape[2:]) for x in outputs[1:]] == [features] * 3


def test_every_dilation_is_full_from_the_first_block():
    with torch.device("meta"):
        backbone = DilatedResNetV1c()
    for stage, dilation in ((backbone.layer3, 2), (backbone.layer4, 4)):
        assert {block.conv2.dilation for block in stage} == {(dilation, dilation)}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("size", [(65, 97), (30, 130), (5, 41)])
def test_any_size_is_trained_on_and_predicted(context, size):
    model = narrow_ocnet(context)
    model.init_weights()
    images, labels = torch.randn(2, 3, *size), torch.randint(0, 5, (2, *size))
    labels[:, :2] = 255
    losses = model.loss(images, samples(labels))
    sum(value for name, value in losses.items() if "loss" in name).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert all(g.any() for name, g in gradients.items() if ".W." in name)
    model.eval()
    with torch.no_grad():
        assert model.encode_decode(images, [dict(img_shape=size)]).shape == (2, 5, *size)


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_context_starts_at_zero_and_learns(context):
    model = narrow_ocnet(context, dropout_ratio=0).double()  # the first changes are small
    model.init_weights()
    weights = {n: p for n, p in model.named_parameters() if ".W." in n}
    assert len(weights) == 2 * (4 if context == "pyramid" else 1)
    assert not any(p.any() for p in weights.values())
    values = {n: p.detach().clone() for n, p in model.named_parameters() if ".f_value." in n}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 64, 64))
    for _ in range(2):  # W first: values get their gradient through it
        losses = model.loss(images, samples(labels))
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if "loss" in name).backward()
        optimizer.step()
    assert all(p.any() for p in weights.values())
    moved = dict(model.named_parameters())
    # Weights only: a bias of the values is a constant of the context, which a norm behind W drops.
    assert all((moved[n] - v).any() for n, v in values.items() if n.endswith("weight"))


@pytest.mark.parametrize(("context", "ratio"), [("base", 0.05), ("asp", 0.1), ("pyramid", 0.05)])
def test_dropout_of_the_paper(context, ratio):
    with torch.device("meta"):
        assert OCHead(context=context, num_classes=19).dropout.p == ratio
        assert OCHead(context=context, num_classes=19, dropout_ratio=0.3).dropout.p == 0.3
        assert OCHead(context=context, num_classes=19, dropout_ratio=0).dropout is None


def test_other_layers_by_config():
    """The WS convolutions and group norms of this project, by OpenMMLab's own options."""
    head = OCHead(
        16,
        16,
        context="asp",
        num_classes=3,
        conv_cfg=dict(type="WSConv2d"),
        norm_cfg=dict(type="GN", num_groups=4),
    )
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    plain = [m for m in convs if type(m) is nn.Conv2d]
    assert len(plain) == 3 and head.conv_seg in plain  # f_value, W, conv_seg have no norm behind
    assert sum(isinstance(m, nn.GroupNorm) for m in head.modules()) == len(convs) - 3


def test_an_unknown_context_is_said():
    with pytest.raises(ValueError, match="No context 'oc'; choose one of base, asp, pyramid"):
        OCHead(context="oc", num_classes=3)


@pytest.mark.slow
@pytest.mark.parametrize("context", CONTEXTS)
def test_exports_to_onnx_for_images_of_any_size(context, tmp_path):
    """Attention is one operator of torch, in ONNX matrix products and a softmax."""
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime")
    model = narrow_ocnet(context).eval()
    for name, module in model.named_modules():
        if name.endswith(".W"):  # which start at zero
            nn.init.normal_(module.weight)
    whole = traceable(copy.deepcopy(model)).eval()
    axes = dict(images={0: "N", 2: "H", 3: "W"})
    torch.onnx.export(
        whole, (torch.randn(1, 3, 65, 97),), tmp_path / "m.onnx", input_names=["images"],
        output_names=["logits", "labels"], dynamic_axes=axes, opset_version=OPSET, dynamo=False,
    )  # fmt: skip
    session = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 65, 97), (2, 3, 120, 75)):
        x = torch.randn(shape)
        (got,) = session.run(["logits"], dict(images=x.numpy()))
        with torch.no_grad():
            expected = model.encode_decode(x, [dict(img_shape=shape[2:])]).numpy()
        assert np.linalg.norm(got - expected) < 1e-5 * np.linalg.norm(expected)
