"""Checkpoints of the authors: converted, they are the same function."""

import pytest
import torch
from published_ocnet import Published
from small_segmentors import narrow_ocnet

from normfix_mm.transfer.convert import convert


@torch.no_grad()
@pytest.mark.parametrize("context", ["base", "asp", "pyramid"])
def test_converted_weights_give_the_published_logits(context):
    torch.manual_seed(1)
    published = Published(context, (3, 4, 6, 3), width=8, stem=8, head=24, classes=5)
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


def test_the_context_matters_in_the_comparison_above():
    """Not so small beside the input that a mistake in the attention could hide."""
    torch.manual_seed(1)
    published = Published("base", (3, 4, 6, 3), width=8, stem=8, head=24, classes=5)
    images = torch.randn(1, 3, 121, 201, dtype=torch.float64)
    _, with_context = published(images)
    published.state["context.2.stages.0.W.weight"].zero_()
    _, without = published(images)
    assert (with_context - without).norm() > 0.1 * with_context.norm()
