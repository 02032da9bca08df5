"""The example for plain PyTorch in the documentation, run as it stands."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import normfix_mm as nf

PAGE = Path(__file__).resolve().parents[1] / "docs/plain_pytorch.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.fc = nn.Linear(8, 5)

    def forward(self, images):
        return self.fc(self.backbone(images))


@pytest.fixture
def names():
    """What the example takes for granted; in float64, where ε is no matter of rounding."""
    torch.manual_seed(0)
    images = torch.randn(6, 3, 12, 12, dtype=torch.float64)
    return dict(torch=torch, model=Classifier().double(), images=images)


def step(names) -> None:
    labels = torch.arange(len(names["images"])) % 5
    nn.functional.cross_entropy(names["model"](names["images"]), labels).backward()
    names["optimizer"].step()


def test_the_example_of_the_shift_regularizes_what_it_says(names):
    normalize_and_shift, _, fold = blocks()
    exec(normalize_and_shift, names)
    model, optimizer = names["model"], names["optimizer"]
    of = {p: name for name, p in model.named_parameters()}
    decay = {of[p]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {name for name, value in decay.items() if value == 0} == {
        "backbone.0.weight", "backbone.3.weight",
        "backbone.1.bias", "backbone.3.bias", "backbone.4.bias", "fc.bias",
    }  # fmt: skip
    assert set(decay) == {name for name, _ in Classifier().named_parameters()} | {"fc.g"}

    # With no other gradient the first step is -lr · λ [(1 − ε/s)(w − μ) + μ].
    before = model.backbone[0].weight.detach().clone()
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    mean, std = before.mean((1, 2, 3), keepdim=True), before.std((1, 2, 3), keepdim=True)
    edit = (1 - 1e-3 / std) * (before - mean) + mean
    expected = before - 0.1 * 1e-4 * edit
    torch.testing.assert_close(model.backbone[0].weight.detach(), expected, rtol=0, atol=1e-12)

    step(names)
    exec(fold, names)
    plain = names["plain"].eval()
    assert {type(m) for m in plain.modules() if hasattr(m, "weight")} == {
        nn.Conv2d, nn.BatchNorm2d, nn.Linear,
    }  # fmt: skip
    torch.testing.assert_close(plain(names["images"]), model.eval()(names["images"]))


def test_the_example_of_norm_fixing_holds_the_norm(names):
    normalize_and_shift, fix, _ = blocks()
    exec(normalize_and_shift.split("# ε-shift")[0], names)
    model = names["model"]
    assert nf.find_scale_variant(model, lambda m: m(names["images"])) == {}  # "{} here"
    exec(fix, names)
    fixed = [model.backbone[0].weight, model.backbone[3].weight, model.fc.weight]
    assert all(group["weight_decay"] == 0 for group in names["optimizer"].param_groups)

    def norm() -> float:
        return torch.cat([w.detach().double().flatten() for w in fixed]).norm().item()

    before, direction = norm(), fixed[0].detach().clone()
    step(names)
    assert norm() == pytest.approx(before, rel=1e-6)
    assert not torch.equal(fixed[0].detach(), direction)


def test_an_optimizer_made_too_early_is_refused_as_the_section_says(names):
    model = names["model"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nf.normalize_layers(model, dict(form="FixNorm", kind="linear", layers="^fc$"))
    nf.normalize_layers(model, dict(form="WN", layers="^backbone"))
    for attach in (nf.EpsShift, nf.NormFix):
        with pytest.raises(ValueError, match="not their gains g.*made before"):
            attach(optimizer, model)
