"""The commands as a user types them: ours, MMDetection's own train.py, `mim train`."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch
from helpers.small_command import CLASSES, CONFIG, write_config
from helpers.tool import call, log_of
from helpers.toy_coco import make_toy_coco, toy_options

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(*command: object, ok: bool = True) -> str:
    """Both streams of a process that must succeed (or must fail)."""
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=env, text=True, capture_output=True, timeout=900
    )
    assert (done.returncode == 0) is ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def logged(tool: str | Path, *arguments: object) -> str:
    """The log of the run of a command that is given --work-dir."""
    call(tool, *arguments)
    return log_of(Path(arguments[arguments.index("--work-dir") + 1]))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy_coco(tmp_path_factory.mktemp("coco"), CLASSES)


@pytest.fixture(scope="module")
def small(tmp_path_factory, toy):
    """The paper's config with a tiny model, on the toy data."""
    return write_config(tmp_path_factory.mktemp("config") / "small.py", toy)


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("run")
    return logged("train.py", small, "--work-dir", work_dir), work_dir


def test_train(trained):
    output, work_dir = trained
    assert "bbox_mAP" in output and (work_dir / "iter_2.pth").exists()
    state = torch.load(work_dir / "iter_2.pth", weights_only=False)["state_dict"]
    assert state["bbox_head.retina_cls.g"].shape == (1,)


def test_resume_and_auto_scale_lr(trained, small, tmp_path):
    _, work_dir = trained
    output = logged(
        "train.py", small, "--work-dir", tmp_path, "--resume", work_dir / "iter_1.pth",
        "--auto-scale-lr", "--cfg-options", "train_cfg.max_iters=3", "train_cfg.val_interval=3",
    )  # fmt: skip
    assert "resumed epoch: 0, iter: 1" in output and (tmp_path / "iter_3.pth").exists()
    assert not (tmp_path / "iter_1.pth").exists()
    assert "Scaling the original LR by 0.125" in output


def test_test(trained, small, tmp_path):
    _, work_dir = trained
    output = logged(
        "test.py", small, work_dir / "iter_2.pth", "--work-dir", tmp_path,
        "--out", tmp_path / "results.pkl", "--show-dir", "pictures", "--tta",
    )  # fmt: skip
    assert "bbox_mAP" in output and (tmp_path / "results.pkl").stat().st_size
    assert list(tmp_path.glob("*/pictures/*"))


def test_mmdetection_s_own_train_py_takes_the_full_config(toy, tmp_path):
    options = toy_options(toy, batch=1) | {"model.backbone.init_cfg": None}
    options |= {"train_cfg.max_iters": 1, "train_cfg.val_interval": 2}
    output = logged(
        Path(mmdet.__file__).parent / ".mim/tools/train.py", CONFIG, "--work-dir", tmp_path,
        "--cfg-options", *(f"{k}={v}".replace(" ", "") for k, v in options.items()),
    )  # fmt: skip
    assert "norm fixing" in output and (tmp_path / "iter_1.pth").exists()


@pytest.mark.parametrize(
    ("script", "given", "inner"),
    [("dist_train.sh", ["c.py"], ["train.py", "c.py"]),
     ("dist_test.sh", ["c.py", "w.pth"], ["test.py", "c.py", "w.pth"])],
)  # fmt: skip
def test_launchers_start_torchrun(script, given, inner, tmp_path):
    """A stand-in for python, which shows what tools/launch.py is given."""
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    env = os.environ | dict(
        PATH=f"{tmp_path}:{os.environ['PATH']}", MASTER_PORT="29617", NNODES="2"
    )
    done = subprocess.run(
        ["bash", ROOT / "tools" / script, *given, "4", "--work-dir", "a b"],
        env=env, text=True, capture_output=True, check=True,
    )  # fmt: skip
    launch, command, *arguments = done.stdout.splitlines()
    assert Path(launch).samefile(ROOT / "tools/launch.py")
    typed = ["bash", str(ROOT / "tools" / script), *given, "4", "--work-dir", "a b"]
    assert shlex.split(command) == typed
    assert {"--nnodes=2", "--nproc_per_node=4", "--master_port=29617"} <= set(arguments)
    at = next(i for i, text in enumerate(arguments) if text.endswith(inner[0]))
    assert Path(arguments[at]).samefile(ROOT / "tools" / inner[0])
    assert arguments[at + 1 :] == [*inner[1:], "--launcher", "pytorch", "--work-dir", "a b"]


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh"])
def test_launchers_say_how_they_are_called(script):
    done = subprocess.run(["bash", ROOT / "tools" / script], text=True, capture_output=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: ")


def test_bad_input_is_one_sentence_and_no_traceback(small, tmp_path):
    output = run(
        ROOT / "tools/train.py", small, "--work-dir", tmp_path / "none",
        "--cfg-options", "train_dataloader.dataset.data_root=/nowhere/", ok=False,
    )  # fmt: skip
    assert output.strip().splitlines()[-1].startswith("error: The folder '/nowhere/train2017")
    assert "Traceback" not in output and not (tmp_path / "none").exists()
    with pytest.raises(SystemExit, match="error: The checkpoint"):
        call("test.py", small, "absent.pth", "--work-dir", tmp_path)
    with pytest.raises(SystemExit, match="error: The config"):
        call("train.py", "absent.py", "--work-dir", tmp_path)


def test_an_out_file_that_cannot_be_written_is_said_before_the_evaluation(
    small, trained, tmp_path, capsys
):
    (tmp_path / "a.pkl").mkdir()
    (tmp_path / "file").touch()
    for out in ("a.pkl", "file/b.pkl"):
        with pytest.raises(SystemExit, match="of --out cannot be written"):
            call(
                "test.py", small, trained[1] / "iter_2.pth", "--work-dir", tmp_path / "run",
                "--out", tmp_path / out,
            )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_scale_variant_weights_are_one_sentence_too(small, tmp_path):
    """Found only on the first batch, by the hook."""
    with pytest.raises(SystemExit) as caught:
        call(
            "train.py", small, "--work-dir", tmp_path,
            "--cfg-options", "model.neck.conv_cfg=None",
        )  # fmt: skip
    text = str(caught.value)
    assert text.startswith("error: NormFixHook: ") and "not scale-invariant" in text
    assert "neck." in text and "exclude=" in text and "\n" not in text


def test_a_setting_without_a_value_is_named(small, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(
            "train.py", small, "--work-dir", tmp_path,
            "--cfg-options", "optim_wrapper.optimizer.lr",
        )  # fmt: skip
    said = capsys.readouterr().err.splitlines()[-1]
    assert "'optim_wrapper.optimizer.lr' gives no value; write KEY=VALUE" in said


@pytest.mark.parametrize("missing", ["mmdet", "mmcv.ops"])
def test_a_missing_stack_is_one_sentence(missing, small):
    """`missing` cannot be imported, as where it is absent or mmcv has no compiled operators."""
    code = f"""
import runpy, sys
class Absent:
    def find_spec(self, name, *_):
        if name == {missing!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
sys.argv = ['train.py', {str(small)!r}]
runpy.run_path({str(ROOT / "tools/train.py")!r}, run_name='__main__')
"""
    output = run("-c", code, ok=False)
    assert "error: normfix_mm.detection needs MMDetection" in output
    assert "check_env" in output and "Traceback" not in output
