"""Checkpoints that would leave a mark, given to every command that reads one. None leaves it."""

import os
import pickle
import shutil
from pathlib import Path

import mmdet
import pytest
import torch
from helpers.processes import ended, one_sentence, start
from helpers.small_command import ROOT
from helpers.tool import call
from mmengine.config import Config

from normfix_mm import report
from normfix_mm.run import command_line

pytestmark = pytest.mark.slow

TOOLS = ROOT / "tools"
INITIAL = """
_base_ = {base!r}
init_cfg = dict(_delete_=True, type="Pretrained", checkpoint={weights!r})
model = dict(backbone=dict(init_cfg=init_cfg))
"""


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def hostile(place, trained):
    """Makes a checkpoint of the run that touches a file, in one of its entries; returns both."""

    def make(name: str, entry: str = "optimizer") -> tuple[Path, Path]:
        content = torch.load(trained / "iter_1.pth", weights_only=False)
        mark, path = place / f"{name}.mark", place / name / f"{name}.pth"
        path.parent.mkdir()
        content[entry] = Payload(mark)
        torch.save(content, path)
        return path, mark

    return make


def refusal(tool: str | Path, *arguments: object) -> str:
    """What a command ends with, in this process, which has imported everything."""
    with pytest.raises(SystemExit) as end:
        call(tool, *arguments)
    return str(end.value.code)


def command(name: str, evil: Path, small: Path, place: Path) -> tuple[object, ...]:
    """One that reads this checkpoint."""
    work, base = ("--work-dir", place / "work"), str(small)
    if name == "init_cfg":
        (place / "init_cfg.py").write_text(INITIAL.format(base=base, weights=str(evil)))
    return {
        "load_from": ("train.py", small, *work, "--cfg-options", f"load_from={evil}"),
        "resume": ("train.py", small, *work, "--resume", evil),
        "init_cfg": ("train.py", place / "init_cfg.py", *work),
        "pretrained": (
            "train.py", small, *work, "--cfg-options", f"model.backbone.pretrained={evil}",
        ),
        "test": ("test.py", small, evil, *work),
        "fold": ("fold.py", small, evil, place / "folded"),
        "convert": ("convert_checkpoint.py", evil, place / "out.pth"),
    }[name]  # fmt: skip


ENTRIES = {
    "load_from": "optimizer",
    "resume": "ema_state_dict",
    "init_cfg": "meta",
    "pretrained": "message_hub",
    "test": "optimizer",
    "fold": "param_schedulers",
    "convert": "optimizer",
}


def assert_refused(said: str, file: str) -> None:
    assert said.startswith("error: ") and file in said
    assert "could run code" in said and "system`" in said and "--trust-checkpoint" in said


@pytest.mark.parametrize("name", ENTRIES)
def test_no_command_runs_what_is_in_a_checkpoint(name, hostile, small, place):
    path, mark = hostile(name, ENTRIES[name])
    assert_refused(refusal(*command(name, path, small, place)), path.name)
    assert not mark.exists()


@pytest.fixture
def spoiled(hostile, trained, place, request):
    """The work dir of somebody else, its noted checkpoint a hostile one; and the mark."""
    name = request.node.name
    path, mark = hostile(name)
    folder = place / f"{name}_run"
    shutil.copytree(trained, folder)
    os.replace(path, folder / "iter_9.pth")
    (folder / "last_checkpoint").write_text(str(folder / "iter_9.pth"))
    return folder, mark


def test_nor_by_resuming_what_a_work_dir_notes(spoiled, small):
    folder, mark = spoiled
    assert_refused(refusal("train.py", small, "--resume", "--work-dir", folder), "iter_9.pth")
    assert not mark.exists()


def test_no_report_runs_what_is_in_a_work_dir(spoiled):
    folder, mark = spoiled
    said = refusal(Path(report.__file__).with_name("__main__.py"), folder)
    assert said.startswith("report: ") and "could run code" in said and "\n" not in said
    assert not mark.exists()


def test_a_real_process_ends_with_the_sentence_and_mmdetection_s_own_train_py_too(
    hostile, small, place
):
    """The latter with our imports alone."""
    own = Path(mmdet.__file__).parent / ".mim/tools/train.py"
    running = []  # both at once: most of their time is imports
    for name, script in (("ours", TOOLS / "train.py"), ("theirs", own)):
        path, mark = hostile(name)
        words = (small, "--work-dir", place / name, "--cfg-options", f"load_from={path}")
        running.append((start(script, *words), mark))
    (ours, mark), (theirs, other_mark) = running
    assert_refused(one_sentence(ours), "ours.pth")
    status, lines = ended(theirs)
    assert status == 1 and lines[-1].startswith("normfix_mm.errors.BadInput: The checkpoint")
    assert not mark.exists() and not other_mark.exists()


def test_the_payload_is_a_real_one(hostile):
    path, mark = hostile("real")
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_named_file_is_trusted_and_no_other(hostile, place):
    path, mark = hostile("trusted")
    other, other_mark = hostile("other")
    words = (TOOLS / "convert_checkpoint.py", "--trust-checkpoint", path, path)
    status, lines = ended(start(*words, place / "trusted.pth"))  # what is trusted, is for good
    assert status == 0 and mark.exists() and (place / "trusted.pth").exists()
    assert any(line.startswith("warning: running the code in") and str(path) in line
               for line in lines)  # fmt: skip
    said = refusal("convert_checkpoint.py", "--trust-checkpoint", path, other, place / "other.pth")
    assert "other.pth" in said and not other_mark.exists()


def test_a_program_in_the_metadata_is_not_run_on_resuming(trained, small, place):
    """mmengine executes the text of `meta['config']`, which no pickle is needed for."""
    mark = place / "config.mark"
    content = torch.load(trained / "iter_1.pth", weights_only=False)
    content["meta"]["config"] = f"open({str(mark)!r}, 'w')"
    torch.save(content, place / "program.pth")
    Config.fromstring(content["meta"]["config"], ".py")
    assert mark.exists()  # so it would be
    mark.unlink()
    call("train.py", small, "--work-dir", place / "program", "--resume", place / "program.pth")
    assert not mark.exists() and (place / "program/iter_2.pth").exists()


def test_all_of_torch_is_kept_from_unpickling_within_a_command(hostile, monkeypatch):
    """Whatever library reads a file, and though it asks for it."""
    path, mark = hostile("library")
    # Many have set this since torch 2.6 came; with it alone torch would unpickle.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(pickle.UnpicklingError):
        command_line.run(lambda: torch.load(path, weights_only=False))
    assert not mark.exists()
