"""A run that is killed, twice, and resumed is the run that was not, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine.toy_run import toy_config
from mmengine.config import Config

from normfix_mm.errors import BadInput
from normfix_mm.preflight.checkpoints import read_checkpoint
from normfix_mm.run.resuming import latest_complete

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLED = """
import os, resource, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Killed(Hook):
    # KILL=step:6 between the gradients and the update of iteration 6; KILL=write:8 when 100 kB of
    # the checkpoint of iteration 8 are on the disk, by the kernel, for exceeding a limit.
    priority = "LOWEST"

    def before_train(self, runner):
        what, _, when = os.environ.get("KILL", ":0").partition(":")
        self.what, self.when = what, int(when)
        if what == "step":
            optimizer = runner.optim_wrapper.optimizer
            optimizer.register_step_pre_hook(lambda *_: self.kill_at(runner.iter + 1))

    def kill_at(self, iteration):
        if iteration == self.when:
            os.kill(os.getpid(), signal.SIGKILL)

    def before_save_checkpoint(self, runner, checkpoint):
        if self.what == "write" and checkpoint["meta"]["iter"] == self.when:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""
METHODS = ("eps-shift", "joint norm")


def config(root: Path, work_dir: Path, method: str) -> Config:
    """Twelve iterations, a checkpoint after every fourth, flips, a schedule, a log of each loss."""
    cfg = toy_config(root, work_dir, by_epoch=False, length=12)
    cfg.default_hooks = dict(
        logger=dict(type="LoggerHook", interval=1),
        checkpoint=dict(type="CheckpointHook", interval=4, by_epoch=False),
    )
    cfg.param_scheduler = [dict(type="LinearLR", start_factor=0.3, by_epoch=False, end=10)]
    cfg.custom_imports = dict(imports=["normfix_mm.detection", "killed"])
    cfg.custom_hooks = [dict(type="ReproducibleHook"), dict(type="Killed")]
    if method == "joint norm":
        cfg.custom_hooks.append(dict(type="NormFixHook"))
    else:
        cfg.model.backbone.update(type="NormalizedResNet", normalize=dict(form="WS"))
        cfg.optim_wrapper.update(
            constructor="EpsShiftOptimWrapperConstructor",
            paramwise_cfg=dict(eps_shift=dict(lam=0.1, eps=0.1)),
        )
    return cfg


def started(folder: Path, method: str, run: str, *flags: str, kill: str = "") -> subprocess.Popen:
    """tools/train.py in a process of its own, under way."""
    env = os.environ | dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", KILL=kill or ":0")
    command = [sys.executable, ROOT / "tools/train.py", folder / f"{method}.py"]
    return subprocess.Popen(
        [*command, "--work-dir", folder / method / run, *flags],
        env=env | dict(PYTHONPATH=f"{ROOT}:{folder}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(toy_data, tmp_path_factory):
    """A folder of the runs, and the outputs of those that were killed and resumed, by method."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "killed.py").write_text(KILLED)
    seed = int.from_bytes(os.urandom(2), "big")
    at = random.Random(seed).randint(5, 8)
    print(f"killed at iteration {at} (seed {seed})")
    stages = [
        ("whole", {}, 0),
        ("resumed", dict(kill=f"step:{at}"), -signal.SIGKILL),
        ("resumed", dict(kill="write:8"), -signal.SIGXFSZ),
        ("resumed", {}, 0),
    ]
    outputs = {method: [] for method in METHODS}
    for method in METHODS:
        config(toy_data, folder / "unused", method).dump(folder / f"{method}.py")
    for stage, (run, options, status) in enumerate(stages):
        flags = ["--resume"] if stage > 1 else []
        jobs = {m: started(folder, m, run, *flags, **options) for m in METHODS}
        for method, job in jobs.items():
            outputs[method].append(job.communicate(timeout=600)[0])
            assert job.returncode == status, (seed, outputs[method][-1][-3000:])
        if status == -signal.SIGXFSZ:
            for method in METHODS:  # half a checkpoint lies there
                (file,) = (folder / method).glob("resumed/iter_8.pth")
                assert file.stat().st_size == 100_000
    return folder, outputs, seed


def losses(work_dir: Path) -> dict[int, dict]:
    """What was logged for each iteration, the last time it was trained; without times."""
    logged = {}
    for file in sorted(work_dir.glob("*/vis_data/scalars.json"), key=os.path.getmtime):
        for line in map(json.loads, file.read_text().splitlines()):
            logged[line["step"]] = {k: v for k, v in line.items() if "time" not in k}
    return logged


@pytest.mark.parametrize("method", METHODS)
def test_resumed_equals_uninterrupted(runs, method):
    folder, outputs, seed = runs
    whole, resumed = folder / method / "whole", folder / method / "resumed"
    assert "resumed epoch: 0, iter: 4" in outputs[method][2]
    assert "resumed epoch: 0, iter: 4" in outputs[method][3]  # not from half of iter_8
    first, second = (torch.load(d / "iter_12.pth", weights_only=False) for d in (whole, resumed))
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), (seed, name)
    momenta = [c["optimizer"]["state"] for c in (first, second)]
    assert list(momenta[0]) == list(momenta[1]) and len(momenta[0]) > 60
    for key, state in momenta[0].items():
        assert torch.equal(state["momentum_buffer"], momenta[1][key]["momentum_buffer"]), (
            seed,
            key,
        )
    assert first["optimizer"]["param_groups"] == second["optimizer"]["param_groups"]
    assert list(losses(whole)) == list(range(1, 13)) and "loss_bbox" in losses(whole)[12]
    assert losses(whole) == losses(resumed), seed


def test_a_checkpoint_cut_off_later_is_passed_over(runs, tmp_path):
    """As where a run is killed while `save_best` writes the noted checkpoint again."""
    folder, _, _ = runs
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    for name in ("iter_4.pth", "iter_8.pth", "iter_12.pth"):
        os.link(folder / METHODS[0] / "whole" / name, work_dir / name)
    (work_dir / "best_iter_12.pth").write_bytes((work_dir / "iter_4.pth").read_bytes())
    note = work_dir / "last_checkpoint"
    there = max(work_dir.glob("iter_*.pth"), key=os.path.getmtime)
    assert latest_complete(str(work_dir)) == str(there)  # mmengine would write over them
    note.write_text(str(work_dir / "iter_8.pth"))
    assert latest_complete(str(work_dir)) == str(work_dir / "iter_8.pth")
    half = (work_dir / "iter_12.pth").read_bytes()[:-1000]
    (work_dir / "iter_12.pth").unlink()
    (work_dir / "iter_12.pth").write_bytes(half)
    for noted in (str(work_dir / "iter_12.pth"), ""):  # "": killed while the note was written
        note.write_text(noted)
        assert latest_complete(str(work_dir)) == str(work_dir / "iter_8.pth")
    with pytest.raises(BadInput, match="cannot be read .* use an earlier one"):
        read_checkpoint(str(work_dir / "iter_12.pth"), "`load_from`")
    for noted in ("iter_4.pth", "iter_12.pth"):  # of a work dir that was moved
        note.write_text(f"/where/it/was/{noted}")
        there = "iter_4.pth" if noted == "iter_4.pth" else "iter_8.pth"
        assert latest_complete(str(work_dir)) == str(work_dir / there)
    for name in ("iter_4.pth", "iter_8.pth"):
        (work_dir / name).unlink()
    assert latest_complete(str(work_dir)) is None
