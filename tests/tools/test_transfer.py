"""The documents' figures of transfer are those of the runs that are kept; each benchmark starts."""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = sorted((ROOT / "benchmarks/results/transfer").glob("*.csv"))


@pytest.fixture(scope="module", autouse=True)
def transfer():
    sys.path.insert(0, str(ROOT))
    from benchmarks import transfer

    yield transfer
    sys.path.remove(str(ROOT))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_documents_table_is_that_of_the_runs(path, transfer):
    page = (ROOT / "docs/from_imagenet.md").read_text()
    found = transfer.Rows(path)
    lines = found.table().splitlines()
    assert len(lines) == 2 + len(found.kinds)
    assert all(line in page for line in lines)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_table_counts_each_seed_s_last_score_at_the_rate_that_is_best_held_out(path, transfer):
    rows = list(csv.DictReader(path.open(newline="")))
    found = transfer.Rows(path)
    for start, method in found.kinds:
        mine = [row for row in rows if (row["start"], row["method"]) == (start, method)]
        last: dict[tuple, tuple] = {}
        for row in mine:
            key = row["images"], row["lr"], row["seed"]
            last[key] = max(last.get(key, (0, 0)), (int(row["iteration"]), float(row["score"])))
        held = {lr: score for (images, lr, _), (_, score) in last.items() if images == "held out"}
        judged = {k: score for k, (_, score) in last.items() if k[0] == "validation"}
        assert {lr for _, lr, _ in judged} == {max(held, key=held.get)}
        assert sorted(float(seed) for _, _, seed in judged) == [1, 2, 3]
        assert found.ends(start, method) == pytest.approx(list(judged.values()))
        mean = sum(judged.values()) / 3
        assert f"{mean:.3f} ± {statistics.stdev(judged.values()):.3f}" in found.table()


def test_anew_nothing_is_frozen_and_nothing_loaded(transfer):
    for task in transfer.NETWORKS:
        for (start, _), cfg in transfer.from_imagenet(task).items():
            frozen = cfg.model.backbone.get("frozen_stages", 0)
            assert (cfg.model.backbone.init_cfg is None) == (start == "anew")
            assert bool(frozen) == (start != "anew" and task != "streets")
