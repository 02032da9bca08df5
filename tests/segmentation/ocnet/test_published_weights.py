"""Checkpoints of the authors: converted, they are the same function."""

import pytest
import torch
from helpers.tool import call
from mmengine.config import Config
from segmentation.ocnet.published_ocnet import Published
from segmentation.ocnet.small_ocnets import NARROW, build, narrow_ocnet, ocnet_config
from torch import nn

from normfix_mm.checkpoints import files
from normfix_mm.convert.convert import convert


def published_ocnet(context):
    torch.manual_seed(1)
    return Published(context, (3, 4, 6, 3), width=8, stem=8, head=24, classes=5)


@torch.no_grad()
@pytest.mark.parametrize("context", ["base", "asp", "pyramid"])
def test_converted_weights_give_the_published_logits(context):
    published = published_ocnet(context)
    images = torch.randn(1, 3, 121, 201, dtype=torch.float64)  # features of 16 × 26, or 8 × 13
    expected = published(images)
    model = narrow_ocnet(context).double().eval()
    result = convert(published.state, {}, target=model, form="plain")

    model.load_state_dict(result.state)  # torch itself fills in BN's counters
    left = {row.old for row in result.report.rows if row.status == "left"}
    assert left == {k for k in published.state if ".f_query." in k or k.endswith(".0.bias")}

    features = model.extract_feat(images)
    for head, logits in zip((model.auxiliary_head, model.decode_head), expected):
        found = head(features)
        assert logits.std() > 1e-3
        assert (found - logits).norm() <= 1e-10 * logits.norm()
    size = images.shape[2:]
    full = nn.functional.interpolate(expected[1], size, mode="bilinear", align_corners=True)
    found = model.encode_decode(images, [dict(img_shape=size)])
    assert (found - full).norm() <= 1e-10 * full.norm()


def test_the_context_matters_in_the_comparison_above():
    """Not so small beside the input that a mistake in the attention could hide."""
    published = published_ocnet("base")
    images = torch.randn(1, 3, 121, 201, dtype=torch.float64)
    _, with_context = published(images)
    published.state["context.2.stages.0.W.weight"].zero_()
    _, without = published(images)
    assert (with_context - without).norm() > 0.1 * with_context.norm()


@torch.no_grad()
@pytest.mark.parametrize("part", [None, "backbone"])
def test_by_the_command(part, tmp_path, capsys):
    """As the authors save it, with DataParallel's prefix, to a file that a model loads."""
    published = published_ocnet("base")
    images = torch.randn(1, 3, 65, 97)
    _, logits = published(images)
    source, out, config = (tmp_path / name for name in ("theirs.pth", "ours.pth", "ocnet.py"))
    torch.save({f"module.{name}": value for name, value in published.state.items()}, source)
    model = ocnet_config("base", classes=5, channels=24, backbone=NARROW)
    imports = dict(imports=["normfix_mm.segmentation"], allow_failed_imports=False)
    Config(dict(default_scope="mmseg", custom_imports=imports, model=model)).dump(config)
    # The form is declared: random weights do not show in BN's statistics what they are.
    arguments = [source, out, "--config", config, "--form", "plain"]
    arguments += ["--part", part] if part else []
    call("convert_checkpoint.py", *arguments)
    printed = capsys.readouterr().out
    assert "OCNet.pytorch's segmentor" in printed and "have no place" not in printed

    model = build(model).eval()
    state, _ = files.read(out)
    if part:
        model.backbone.load_state_dict(state)
        return
    model.load_state_dict(state)
    found = model.decode_head(model.extract_feat(images))
    assert (found - logits).norm() <= 1e-5 * logits.norm()
