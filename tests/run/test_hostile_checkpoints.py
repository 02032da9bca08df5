"""Checkpoints that would leave a mark, given to every command that reads one. None leaves it."""

import os
import shutil
from pathlib import Path

import mmdet
import pytest
import torch
from helpers.processes import ended, one_sentence, start
from helpers.small_command import ROOT
from mmengine.config import Config

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


@pytest.fixture(scope="module")
def started(small, trained, hostile, place):
    """All the processes at once: most of their time is imports."""
    running = {}

    def begin(name: str, entry: str, *command, **options) -> None:
        path, mark = hostile(name, entry)
        words = [str(word).replace("EVIL", str(path)) for word in command]
        running[name] = start(*words, **options), path, mark

    train = (TOOLS / "train.py", small, "--work-dir", place / "work")
    begin("load_from", "optimizer", *train, "--cfg-options", "load_from=EVIL")
    begin("resume", "ema_state_dict", *train, "--resume", "EVIL")
    initial = place / "init_cfg.py"
    weights = place / "init_cfg/init_cfg.pth"
    initial.write_text(INITIAL.format(base=str(small), weights=str(weights)))
    begin("init_cfg", "meta", TOOLS / "train.py", initial, "--work-dir", place / "work")
    begin("pretrained", "message_hub", *train, "--cfg-options", "model.backbone.pretrained=EVIL")
    begin("test", "optimizer", TOOLS / "test.py", small, "EVIL", "--work-dir", place / "work")
    begin("fold", "param_schedulers", TOOLS / "fold.py", small, "EVIL", place / "folded")
    begin("convert", "optimizer", TOOLS / "convert_checkpoint.py", "EVIL", place / "out.pth")
    # The work dir of somebody else: the noted checkpoint, for --resume alone and for the report.
    for name, command in (
        ("last", (TOOLS / "train.py", small, "--resume", "--work-dir")),
        ("report", ("-m", "normfix_mm.report")),
    ):
        folder = place / f"{name}_run"
        shutil.copytree(trained, folder)
        begin(name, "optimizer", *command, folder)
        os.replace(running[name][1], folder / "iter_9.pth")
        (folder / "last_checkpoint").write_text(str(folder / "iter_9.pth"))
    own = Path(mmdet.__file__).parent / ".mim/tools/train.py"
    begin("mmdet", "optimizer", own, small, "--work-dir", place / "mmdet", "--cfg-options",
          "load_from=EVIL")  # fmt: skip
    return running


NAMES = ["load_from", "resume", "init_cfg", "pretrained", "test", "fold", "convert", "last"]


@pytest.mark.parametrize("name", NAMES)
def test_no_command_runs_what_is_in_a_checkpoint(started, name):
    process, path, mark = started[name]
    said = one_sentence(process)
    file = "iter_9.pth" if name == "last" else path.name
    assert file in said and "could run code" in said and "system`" in said
    assert "--trust-checkpoint" in said
    assert not mark.exists()


def test_no_report_runs_what_is_in_a_work_dir(started):
    process, _, mark = started["report"]
    status, lines = ended(process)
    assert status == 1 and lines[-1].startswith("report: ") and "could run code" in lines[-1]
    assert "Traceback" not in "\n".join(lines) and not mark.exists()


def test_nor_does_mmdetection_s_own_train_py_with_our_imports(started):
    process, _, mark = started["mmdet"]
    status, lines = ended(process)
    assert status == 1 and not mark.exists()
    assert lines[-1].startswith("normfix_mm.errors.BadInput: The checkpoint")


def test_the_payload_is_a_real_one(hostile):
    path, mark = hostile("real")
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_named_file_is_trusted_and_no_other(hostile, place, small):
    path, mark = hostile("trusted")
    other, other_mark = hostile("other")
    command = (TOOLS / "convert_checkpoint.py", "--trust-checkpoint", path)
    both = [start(*command, each, place / f"{each.stem}.pth") for each in (path, other)]
    status, lines = ended(both[0])
    assert status == 0 and mark.exists() and (place / "trusted.pth").exists()
    assert any(line.startswith("warning: running the code in") and str(path) in line
               for line in lines)  # fmt: skip
    assert "other.pth" in one_sentence(both[1]) and not other_mark.exists()


def test_a_program_in_the_metadata_is_not_run_on_resuming(trained, small, place):
    """mmengine executes the text of `meta['config']`, which no pickle is needed for."""
    mark = place / "config.mark"
    content = torch.load(trained / "iter_1.pth", weights_only=False)
    content["meta"]["config"] = f"open({str(mark)!r}, 'w')"
    torch.save(content, place / "program.pth")
    Config.fromstring(content["meta"]["config"], ".py")
    assert mark.exists()  # so it would be
    mark.unlink()
    process = start(
        TOOLS / "train.py", small, "--work-dir", place / "program", "--resume",
        place / "program.pth",
    )  # fmt: skip
    status, lines = ended(process)
    assert status == 0, "\n".join(lines[-20:])
    assert not mark.exists() and (place / "program/iter_2.pth").exists()


def test_all_of_torch_is_kept_from_unpickling_within_a_command(hostile, tmp_path):
    """Whatever library reads a file, and though it asks for it."""
    path, mark = hostile("library")
    code = f"""
import torch
from normfix_mm.run import command_line
command_line.run(lambda: torch.load({str(path)!r}, weights_only=False))
"""
    # Many have set this since torch 2.6 came; with it alone torch would unpickle.
    status, lines = ended(start("-c", code, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"))
    assert status == 1 and "UnpicklingError" in "\n".join(lines)
    assert not mark.exists()
