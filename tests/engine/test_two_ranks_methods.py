"""Each method on two ranks: equal weights on both, and those of one rank with the whole batch."""

from pathlib import Path

import pytest
import torch
from engine import twin_run
from engine.twin_run import METHODS, make_twins
from engine.two_ranks import two_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    root = tmp_path_factory.mktemp("twins")
    make_twins(root)
    return root


@pytest.fixture(scope="module")
def ranks(twins, tmp_path_factory):
    """What each of two ranks found, by method."""
    work_dir = tmp_path_factory.mktemp("ranks")
    done = two_ranks(Path(twin_run.__file__), twins, work_dir)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(work_dir / f"rank{r}.pth", weights_only=False) for r in (0, 1)]


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_of_both_ranks_are_the_same_bits(ranks, method):
    first, second = (rank[method]["end"] for rank in ranks)
    assert list(first) == list(second) and len(first) > 60
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    for norm, target in ranks[0][method]["norms"] + ranks[1][method]["norms"]:
        assert norm == pytest.approx(target, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_are_one_rank_with_the_whole_batch(ranks, twins, tmp_path, method):
    alone = twin_run.run(twins, tmp_path, method)
    shares = [rank[method]["positives"] for rank in ranks]
    assert shares[0] == shares[1] == [n / 2 for n in alone["positives"]] and len(shares[0]) >= 8
    together = ranks[0][method]
    for name, start in alone["start"].items():
        assert torch.equal(start, together["start"][name]), name
        moved = (alone["end"][name] - start).norm()
        apart = (alone["end"][name] - together["end"][name]).norm()
        last_place = torch.finfo(start.dtype).eps * start.norm()  # what hardly moves is rounded
        assert apart <= 1e-4 * moved + last_place, name
