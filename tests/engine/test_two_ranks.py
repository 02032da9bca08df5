"""Two processes under DistributedDataParallel do the same thing, and agree on what they refuse."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = """
import sys
from pathlib import Path
import torch
from toy_run import toy_config, train

root, work_dir = map(Path, sys.argv[1:3])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")  # mmengine's launcher would ask for a GPU
ranks = dict(launcher="pytorch", length=1)
ranks["model_wrapper_cfg"] = dict(type="MMDistributedDataParallel", device_ids=None)
ranks["custom_hooks"] = [dict(type="NormFixHook"), dict(type="ReproducibleHook")]
runner = train(toy_config(root, work_dir / "run", **ranks))
fixing = next(h for h in runner.hooks if type(h).__name__ == "NormFixHook").norm_fix
found = dict(weights=runner.model.module.state_dict(), norm=fixing.joint_norm(),
             target=fixing.target, refused=None)
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
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{r}.pth", weights_only=False) for r in (0, 1))
    buffers = ("running_mean", "running_var")  # each rank's own batches, as ever with BN
    for name, value in first["weights"].items():
        assert name.endswith(buffers) or torch.equal(value, second["weights"][name]), name
    assert first["refused"] == second["refused"] and "20 of 32 weights" in first["refused"]
    torch.testing.assert_close(first["norm"], first["target"], rtol=1e-6, atol=0)
