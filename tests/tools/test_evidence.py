"""The evidence on a handful of real images: every kind of run, a claim resumed, its page."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def importable():
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def data(real_data, tmp_path_factory) -> Path:
    """The two zip files with 13 and 3 images a class: two steps an epoch."""
    folder = tmp_path_factory.mktemp("cifar")
    for name, count in (("train.zip", 13), ("test.zip", 3)):
        with (
            zipfile.ZipFile(real_data / "cifar10" / name) as source,
            zipfile.ZipFile(folder / name, "w") as target,
        ):
            names = sorted(n for n in source.namelist() if n.endswith(".jpg"))
            for kind in sorted({n.split("/")[0] for n in names}):
                for each in [n for n in names if n.startswith(f"{kind}/")][:count]:
                    target.writestr(each, source.read(each))
    return folder


def run(*arguments: object) -> None:
    from benchmarks.evidence.__main__ import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evidence", *map(str, arguments)])
        main()


def test_a_claim_runs_resumes_and_has_its_page(data, tmp_path, capsys):
    runs = tmp_path / "runs"
    arguments = ("figs-6-7", "--data", data, "--runs", runs, "--out", tmp_path, "--jobs", 1)
    run(*arguments)
    results = sorted(runs.glob("*.json"))
    assert len(results) == 4
    lines = (tmp_path / "evidence.md").read_text()
    assert "| run | paper | here |" in lines and "**" in lines
    assert (tmp_path / "evidence.html").read_text().count("<figure>") == 1
    assert (tmp_path / "figs-6-7.png").stat().st_size > 10_000
    stamps = [path.stat().st_mtime_ns for path in results]
    results[0].unlink()
    capsys.readouterr()
    run(*arguments)
    assert "1 runs to be done" in capsys.readouterr().out
    assert [p.stat().st_mtime_ns for p in sorted(runs.glob("*.json"))][1:] == stamps[1:]


def test_every_kind_of_run_does_what_its_settings_say(data):
    from benchmarks.evidence import images
    from benchmarks.evidence.__main__ import CLAIMS
    from benchmarks.evidence.training import build, looked_at, prepare

    train, _ = images.load(data)
    kinds = {}
    for claim in CLAIMS:
        for settings in claim.settings:
            kind = (settings.form, settings.optimizer, settings.eps > 0, settings.classifier)
            kinds.setdefault((*kind, settings.fixed, settings.thin, settings.lam > 0), settings)
    assert len(kinds) >= 12
    for settings in kinds.values():
        torch.manual_seed(0)
        model = build(settings)
        optimizer, layers = prepare(model, settings)
        norm = torch.stack([layer.weight.detach().norm() for layer in layers]).norm()
        x = images.augmented(train.pixels[:64], torch.Generator().manual_seed(0))
        for _ in range(2):
            features = model[:-1](x)
            loss = torch.nn.functional.cross_entropy(model[-1](features), train.labels[:64])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        line = looked_at(model, layers, 0, 0.1, loss, features, train.labels[:64])
        assert all(value == value for value in line.values()), settings
        changed = abs(line["joint_norm"] / float(norm) - 1) > 1e-5
        assert changed == (settings.fixed != "conv") or settings.fixed == "conv+classifier"
        forms = {type(m).__name__ for m in layers}
        assert ("Conv2d" in forms) == (
            settings.form == "plain" or (settings.depthwise and not settings.thin)
        )
        assert hasattr(model[-1], "cap") == (settings.classifier == "FixNorm")


def test_a_run_that_dies_is_told_and_not_counted(data, tmp_path):
    from benchmarks.evidence import images
    from benchmarks.evidence.claim import accuracies
    from benchmarks.evidence.training import Settings, kept, train

    settings = Settings(lr=1e30, warmup=0)
    result = train(settings, images.load(data), tmp_path)
    assert not result["alive"] and result["accuracy"] == 0.0
    assert accuracies([result]) == f"dead at step {result['stopped']}"
    assert json.loads(kept(settings, tmp_path).read_text()) == result


def test_the_page_says_what_the_kept_runs_say():
    """docs/evidence.md has the verdict of each claim whose runs are kept, the rest as not run."""
    from benchmarks.evidence.__main__ import CLAIMS, KEPT, collected

    text = " ".join((ROOT / "docs/evidence.md").read_text(encoding="utf-8").split())
    _, _, not_run = text.partition("## Not run to their ends")
    for claim in CLAIMS:
        results = collected(claim.settings, KEPT)
        whole = all(settings in results for settings in claim.settings)
        assert (f"`{claim.name}`" in not_run) is not whole, claim.name
        if whole:
            found = {label: [results[s] for s in runs] for label, runs in claim.runs.items()}
            assert f"**{claim.says(found)}**" in text, claim.name
