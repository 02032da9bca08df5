"""Our commands on two ranks without a GPU, and what becomes of a job when one rank dies."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from engine.toy_run import toy_config
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from torch import distributed

from normfix_mm.errors import BadInput
from normfix_mm.run.runner import build_runner

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DIES = """
import os, signal
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Dies(Hook):
    # Rank 1 is killed in mid-training, as by the kernel when memory runs out.
    def __init__(self, file):
        self.file = file

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 1 and get_rank() == 1:
            open(self.file, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def run(*command: object, **variables: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | dict(PATH=path, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES="")
    env |= dict(OMP_NUM_THREADS="1") | variables
    return subprocess.run(
        [*map(str, command)], env=env, text=True, capture_output=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def config(toy_data, tmp_path_factory):
    """A file for tools/train.py and tools/test.py, with norm fixing."""
    folder = tmp_path_factory.mktemp("config")
    file = folder / "toy.py"
    changes = dict(length=1, custom_hooks=[dict(type="NormFixHook")])
    cfg = toy_config(toy_data, folder / "run", **changes)
    cfg.find_unused_parameters = True
    wide = cfg.train_dataloader.dataset.datasets[0]
    for phase in ("val", "test"):
        dataset = wide.copy()
        dataset.update(test_mode=True)
        dataset.pipeline = [
            *wide.pipeline[:2],
            dict(type="Resize", scale=(64, 48), keep_ratio=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ]
        sampler = dict(type="DefaultSampler", shuffle=False)
        cfg[f"{phase}_dataloader"] = dict(
            batch_size=1, num_workers=0, persistent_workers=False, sampler=sampler, dataset=dataset
        )
        annotations = f"{wide.data_root}/{wide.ann_file}"
        cfg[f"{phase}_evaluator"] = dict(type="CocoMetric", ann_file=annotations, metric="bbox")
        cfg[f"{phase}_cfg"] = dict(type=f"{phase.capitalize()}Loop")
    cfg.dump(file)
    return file


def log_of(folder: Path) -> str:
    return max(folder.glob("*/*.log"), key=os.path.getmtime).read_text()


@pytest.fixture(scope="module")
def trained(config):
    mim = "from mim.cli import cli; cli()"  # finds an installed normfix_mm, as wheel or editable
    done = run(
        sys.executable, "-c", mim, "train", "normfix_mm", config, "--launcher", "pytorch",
        "--gpus", 2, "--port", 29531,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return config.parent / "run"


def test_training_on_two_ranks(trained):
    log = log_of(trained)
    assert "Distributed training: True" in log and "GPU number: 2" in log
    assert "weights are scale-invariant" in log
    assert "Epoch(train) [1][2/3]" in log  # of six batches each rank trains three
    assert "bbox_mAP" in log and (trained / "epoch_1.pth").exists()


def test_evaluation_on_two_ranks(trained, config, tmp_path):
    done = run(
        "bash", ROOT / "tools/dist_test.sh", config, trained / "epoch_1.pth", 2,
        "--work-dir", tmp_path, MASTER_PORT="29532",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    log = log_of(tmp_path)
    assert "Epoch(test) [4/4]" in log and "bbox_mAP" in log


def test_a_dying_rank_ends_the_job(config, tmp_path):
    """The other rank waits for its gradients; it must not do so for ever, nor the job succeed."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(train_cfg=dict(max_epochs=1000), work_dir=str(tmp_path / "run")))
    cfg.custom_hooks.append(dict(type="Dies", file=str(tmp_path / "died")))
    cfg.custom_imports = dict(imports=["normfix_mm.detection", "dies"])
    cfg.dump(tmp_path / "dying.py")
    (tmp_path / "dies.py").write_text(DIES)
    done = run(
        "bash", ROOT / "tools/dist_train.sh", tmp_path / "dying.py", 2,
        MASTER_PORT="29533", PYTHONPATH=f"{ROOT}:{tmp_path}",
    )  # fmt: skip
    assert time.time() - (tmp_path / "died").stat().st_mtime < 60
    assert done.returncode not in (0, None)
    assert "Signal 9 (SIGKILL)" in done.stderr and "local_rank: 1" in done.stderr
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"find_unused_parameters": True, "optim_wrapper.accumulative_counts": 2},
         dict(find_unused_parameters=True)),
        ({"model_wrapper_cfg": dict(static_graph=True)}, dict(static_graph=True)),
    ],
    ids=["unused parameters", "static graph"],
)  # fmt: skip
def test_the_config_s_wrapper_options_hold(options, kept, toy_data, tmp_path):
    """Once with gradients accumulated over two batches; one rank is enough to see it."""
    cfg = toy_config(toy_data, tmp_path, length=1, launcher="pytorch", **options)
    cfg.custom_hooks = [dict(type="NormFixHook")]
    cfg.env_cfg = dict(dist_cfg=dict(timeout=77))
    with pytest.MonkeyPatch.context() as patch:
        place = dict(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1")
        for name, value in (place | dict(MASTER_PORT="29534")).items():
            patch.setenv(name, value)
        runner = build_runner(cfg)
        try:
            runner.train()
            group = distributed.distributed_c10d._get_default_group()
            assert group._get_backend(torch.device("cpu")).options._timeout.seconds == 77
        finally:
            distributed.destroy_process_group()
    assert type(runner.model) is MMDistributedDataParallel
    assert {name: getattr(runner.model, name) for name in kept} == kept
    (fix,) = [hook.norm_fix for hook in runner.hooks if hasattr(hook, "norm_fix")]
    assert float(fix.joint_norm()) == pytest.approx(float(fix.target), rel=1e-6)


@pytest.mark.parametrize("launcher", ["pytorch", "slurm"])
def test_a_launcher_that_cannot_work_here_is_one_sentence(launcher, config, tmp_path):
    """mmengine would end in torch's CUDA traceback."""
    cfg = Config.fromfile(config)
    cfg.launcher = launcher
    with pytest.MonkeyPatch.context() as patch, pytest.raises(BadInput, match="torchrun") as error:
        patch.delenv("RANK", raising=False)
        build_runner(cfg)
    assert str(error.value).startswith(f"--launcher {launcher}: without a GPU")


@pytest.mark.parametrize(
    ("script", "given", "inner"),
    [("slurm_train.sh", ["c.py", "w"], ["train.py", "c.py", "--work-dir", "w"]),
     ("slurm_test.sh", ["c.py", "w.pth"], ["test.py", "c.py", "w.pth"])],
)  # fmt: skip
def test_slurm_is_asked_for_the_gpus(script, given, inner, tmp_path):
    """A stand-in for srun, which only a cluster has."""
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    done = run(
        "bash", ROOT / "tools" / script, "gpu", "my job", *given, "--cfg-options", "a=b c",
        PATH=f"{tmp_path}:{os.environ['PATH']}", GPUS="16", SRUN_ARGS="--time=1:0:0 --exclusive",
    )  # fmt: skip
    arguments = done.stdout.splitlines()
    wanted = ["--partition=gpu", "--job-name=my job", "--gres=gpu:8", "--ntasks=16"]
    wanted += ["--ntasks-per-node=8", "--kill-on-bad-exit=1", "--time=1:0:0", "--exclusive"]
    at = arguments.index("python")
    assert set(wanted) <= set(arguments[:at]) and arguments[at + 1] == "-u"
    assert Path(arguments[at + 2]).samefile(ROOT / "tools" / inner[0])
    tail = [*inner[1:], "--launcher", "slurm", "--cfg-options", "a=b c"]
    assert arguments[at + 3 :] == tail
    usage = run("bash", ROOT / "tools" / script)
    assert usage.returncode == 2 and usage.stderr.startswith("usage: ")
