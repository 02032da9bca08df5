"""Gains on two ranks that DDP has given one model before its weights are initialized."""

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
model = nn.Sequential(nf.WNConv2d(3, 4, 3), nn.BatchNorm2d(4), nf.FixNormConv2d(4, 5, 1))
with torch.no_grad():
    written = sys.argv[2] == "written"
    if written:
        model[2].g.fill_(0.3)
wrapped = nn.parallel.DistributedDataParallel(model)
torch.manual_seed(7)
for layer in (model[0], model[2]):
    nn.init.normal_(layer.weight, std=0.05)
nf.NormFix(torch.optim.SGD(model.parameters(), lr=0.1), model)
found = [model[0].weight.detach().flatten(1).norm(dim=1), model[0].g.detach(),
         model[2].weight.detach().norm().reshape(1), model[2].g.detach()]
torch.save(found, f"{sys.argv[1]}/rank{dist.get_rank()}.pth")
dist.destroy_process_group()
"""


def test_every_rank_sets_them_alike(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    for kind in ("fresh", "written"):
        done = two_ranks(tmp_path / "job.py", tmp_path, kind)
        assert done.returncode == 0, done.stderr[-2000:]
        for rank in (0, 1):
            conv, conv_g, head, head_g = torch.load(tmp_path / f"rank{rank}.pth")
            torch.testing.assert_close(conv_g, conv)
            torch.testing.assert_close(head_g, head if kind == "fresh" else torch.tensor([0.3]))
