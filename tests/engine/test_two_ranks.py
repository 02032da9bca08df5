"""Two processes under DistributedDataParallel do the same thing, and agree on what they refuse."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from engine.toy_run import evaluation, toy_config, train
from normfix_mm.engine.hooks import cross_boundary_risk


@HOOKS.register_module()
class StaleGains(Hook):
    # Layers whose g is not the norm of their weight when training starts.
    priority = "LOWEST"

    def before_train(self, runner):
        modules = runner.model.named_modules()
        layers = [(n, m) for n, m in modules if getattr(m, "g", None) is not None]
        self.seen, self.stale = len(layers), []
        for name, layer in layers:
            norm = layer.weight.detach().reshape(len(layer.g), -1).norm(dim=1)
            if not torch.allclose(layer.g.detach(), norm, rtol=1e-5):
                self.stale.append(name)


root, work_dir = map(Path, sys.argv[1:3])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")  # mmengine's launcher would ask for a GPU
ranks = dict(launcher="pytorch", length=1)
ranks["model_wrapper_cfg"] = dict(type="MMDistributedDataParallel", device_ids=None)
others = [dict(type=name) for name in ("ReproducibleHook", "WeightTableHook", "StaleGains")]
own = []  # sums and numbers of MCBR, two pictures a rank, before the ranks add up


def adding(risks):
    own.append(risks.clone())
    add(risks)


add, cross_boundary_risk.all_reduce = cross_boundary_risk.all_reduce, adding
watched = [*others, dict(type="CrossBoundaryRiskHook")]
config = toy_config(root, work_dir / "plain", **ranks, **evaluation(root), custom_hooks=watched)
plain = train(config)
risk = plain.message_hub.get_scalar("val/mcbr/bbox_head.retina_cls").current()
ranks["custom_hooks"] = [dict(type="NormFixHook"), *others]
runner = train(toy_config(root, work_dir / "run", **ranks))
hook, alone, fix = (
    next(h for h in r.hooks if type(h).__name__ == name)
    for r, name in ((runner, "StaleGains"), (plain, "StaleGains"), (runner, "NormFixHook"))
)
fixing = fix.norm_fix
found = dict(weights=runner.model.module.state_dict(), norm=fixing.joint_norm(),
             target=fixing.target, refused=None,
             gains=(hook.seen, hook.stale), gains_alone=(alone.seen, alone.stale),
             own=own[-1], risk=risk)
try:
    train(toy_config(root, work_dir / "bad", **ranks, **{"model.backbone.norm_eval": True}))
except ValueError as error:
    found["refused"] = str(error)
torch.save(found, work_dir / f"rank{runner.rank}.pth")
"""


def test_two_ranks(toy_data, tmp_path):
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    (tmp_path / "job.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [*command, str(tmp_path / "job.py"), str(toy_data), str(tmp_path)],
        env=os.environ | dict(PYTHONPATH=path, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{r}.pth", weights_only=False) for r in (0, 1))
    buffers = ("running_mean", "running_var")  # each rank's own batches, as ever with BN
    for name, value in first["weights"].items():
        assert name.endswith(buffers) or torch.equal(value, second["weights"][name]), name
    for rank in (first, second):  # initialized after DDP had wrapped the model
        assert rank["gains"] == rank["gains_alone"] == (12, [])
    total, count = (first["own"] + second["own"])[0].tolist()
    assert count > first["own"][0, 1] > 0 and not torch.equal(first["own"], second["own"])
    assert first["risk"] == second["risk"] == total / count
    assert first["refused"] == second["refused"] and "20 of 32 weights" in first["refused"]
    torch.testing.assert_close(first["norm"], first["target"], rtol=1e-6, atol=0)
