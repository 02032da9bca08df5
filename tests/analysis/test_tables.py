"""The tables printed before training cover every weight, with its treatment and its norm."""

import re

import pytest
import torch
from torch import nn

from normfix_mm import EpsShift, FixNormLinear, WNConv2d, WSConv2d
from normfix_mm.analysis.tables import joint_norm_table, treatment_table
from normfix_mm.optim import weights as selection


@pytest.fixture
def detector() -> nn.Module:
    """Named like a two-stage detector; a frozen stem, heads of several forms."""
    net = nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), WSConv2d(4, 4, 3)),
            "neck": WNConv2d(4, 4, 1),
            "roi_head": nn.ModuleDict(
                {
                    "bbox_head": FixNormLinear(4, 3),
                    "mask_head": nn.Sequential(WNConv2d(4, 4, 3), nn.Conv2d(4, 2, 1)),
                }
            ),
        }
    )
    net["backbone"][0].requires_grad_(False)
    return net


def test_every_parameter_is_in_the_treatment_table(detector):
    stem = detector["backbone"][2].weight
    others = [p for p in detector.parameters() if p.requires_grad and p is not stem]
    optimizer = torch.optim.SGD(
        [{"params": others, "weight_decay": 1e-4}, {"params": [stem]}], lr=0.1
    )
    shift = EpsShift(optimizer, detector, include="^backbone.2.w")
    table = treatment_table(detector, optimizer)
    assert shift.infos[0].param is stem
    rows = [line.split() for line in table.splitlines()[1:]]
    tensors = sum(int(r[-4 if "…" not in r else -6]) for r in rows)
    assert tensors == len(list(detector.parameters()))
    for treatment in ("ε-shift", "decay 0.0001", "frozen"):
        assert treatment in table


def test_what_no_step_moves_and_what_an_optimizer_decays_by_itself(detector):
    neck, rest = [detector["neck"].weight], [detector["backbone"][2].weight]
    groups = [dict(params=neck, lr=0.0), dict(params=rest, lr=0.1)]
    table = treatment_table(detector, torch.optim.ASGD(groups, lambd=0.01))
    rows = [re.split(r"\s{2,}", line) for line in table.splitlines()[1:]]
    treatments = {row[-1]: row[0] for row in rows}
    assert treatments["neck.weight"] == "rate 0"
    assert treatments["backbone.2.weight"] == "decay 0.01"


def test_the_joint_norm_by_part(detector):
    table = joint_norm_table(selection.norm_fix_weights(detector))
    rows = [line.split() for line in table.splitlines()[1:]]
    assert [tuple(row[:5]) for row in rows] == [
        ("backbone", "conv", "WS", "1", "144"),
        ("neck", "conv", "WN", "1", "16"),
        ("roi_head.bbox_head", "linear", "FixNorm", "1", "12"),
        ("roi_head.mask_head", "conv", "WN", "1", "144"),
        ("roi_head.mask_head", "conv", "plain", "1", "8"),
    ]
    neck = detector["neck"].weight.detach().norm()
    assert float(rows[1][5]) == pytest.approx(float(neck), rel=1e-3)
    assert sum(float(row[6].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.3)
    squares = [float(row[5]) ** 2 for row in rows]
    shares = [100 * square / sum(squares) for square in squares]
    assert shares == pytest.approx([float(row[6].rstrip("%")) for row in rows], abs=0.2)
