"""The target of norm fixing on two ranks that DDP gives one model only after it is attached."""

import pytest
import torch
from engine.two_ranks import two_ranks

pytestmark = pytest.mark.slow

SCRIPT = """
import sys, torch
from torch import distributed as dist, nn
import normfix_mm as nf
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())  # every rank builds another model
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
fixing = nf.NormFix(optimizer, model)
wrapped = nn.parallel.DistributedDataParallel(model)
for _ in range(2):
    optimizer.zero_grad()
    wrapped(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
found = [fixing.target, model[0].weight.detach(), model[2].weight.detach()]
torch.save(found, f"{sys.argv[1]}/rank{dist.get_rank()}.pth")
dist.destroy_process_group()
"""


def test_both_ranks_hold_one_norm_and_have_one_model(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    done = two_ranks(tmp_path / "job.py", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    here, there = (torch.load(tmp_path / f"rank{rank}.pth") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    held = torch.cat([weight.double().flatten() for weight in here[1:]]).norm()
    torch.testing.assert_close(held, here[0], rtol=1e-6, atol=0)
