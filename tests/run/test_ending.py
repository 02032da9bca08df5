"""How commands end that do not end well: one line, a status, nothing half-made, no traceback."""

import errno
import os
import shlex
import signal
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from helpers.processes import ended, one_sentence, start, start_any, wait_for
from helpers.small_command import ROOT
from helpers.tool import call
from mmengine.config import Config
from mmengine.runner import Runner
from torch.nn import functional

from normfix_mm.errors import BadInput
from normfix_mm.optim.weights import norm_fix_weights
from normfix_mm.run import ending, resuming
from normfix_mm.run.misbuilt import misbuilt
from normfix_mm.tuning.worker import _terminated_as_interrupted
from normfix_mm.typed import line, resumed

TRAIN = ROOT / "tools/train.py"
LONG = ("train_cfg.max_iters=2000", "train_cfg.val_interval=2000", "find_unused_parameters=True")


def refusal(*arguments: object) -> str:
    """What tools/train.py ends with, in this process, which has imported everything."""
    with pytest.raises(SystemExit) as end:
        call("train.py", *arguments)
    return str(end.value.code)


# -- one process --------------------------------------------------------------------------------


@pytest.mark.slow
def test_interrupted_training_says_what_was_saved_and_what_goes_on(small, tmp_path):
    """Ctrl-C reaches every process of the terminal, the ones that load images as well."""
    work_dir = tmp_path / "my run"
    more = ("train_dataloader.num_workers=1", "default_hooks.checkpoint.interval=3")
    process = start(TRAIN, small, "--work-dir", work_dir, "--cfg-options", *LONG, *more)
    wait_for(work_dir / "last_checkpoint", process)
    os.killpg(process.pid, signal.SIGINT)
    said = one_sentence(process, 130)
    latest = (work_dir / "last_checkpoint").read_text()
    assert said.startswith(f"interrupted; saved is {latest!r}; go on with: python ")
    command = shlex.split(said.partition("go on with: python ")[2])
    assert command[:4] == [str(TRAIN), str(small), "--work-dir", str(work_dir)]
    assert command[-1] == "--resume"


LENDER = """
import multiprocessing, socket
from multiprocessing import resource_sharer
from normfix_mm.run import ending

def lend(end):
    end.send(resource_sharer.DupFd(0)._id[0])
    end.recv()

def main():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    lender = context.Process(target=lend, args=(theirs,))
    lender.start()
    address = ours.recv()
    for bytes_read in (0, 1):  # when the second is greeted, the first is dealt with
        with socket.socket(socket.AF_UNIX) as reader:
            reader.connect(address)
            reader.recv(bytes_read)
    ours.send("enough")
    lender.join()
    raise KeyboardInterrupt

ending.run(main)
"""


def test_a_process_that_loads_images_is_silent_when_its_reader_has_gone():
    """An image is handed over in two steps, and Ctrl-C may come between them."""
    said = one_sentence(start("-c", LENDER), 130)
    assert said == "interrupted; start the same command again"


@pytest.mark.slow
def test_interrupted_before_the_first_checkpoint(small, tmp_path):
    """By a signal to this process alone, as schedulers send it."""
    never = "default_hooks.checkpoint.interval=5000"
    process = start(TRAIN, small, "--work-dir", tmp_path / "run", "--cfg-options", *LONG, never)
    wait_for(tmp_path / "run/small.py", process)  # the dumped config: training has begun
    time.sleep(1)
    process.terminate()
    said = one_sentence(process, 130)
    assert (
        "no checkpoint was written yet" in said
        and "start the same command again, it begins anew" in said
    )


@pytest.mark.slow
def test_interrupted_while_it_is_still_importing(small):
    process = start(TRAIN, small)
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGINT)
    status, lines = ended(process)
    assert status in (-signal.SIGINT, 130) and "Traceback" not in "\n".join(lines)


@pytest.mark.slow
def test_a_resumed_checkpoint_without_a_target(trained, small, tmp_path):
    """Found by the hook alone, when training starts."""
    content = torch.load(trained / "iter_1.pth", weights_only=False)
    del content["norm_fix"]
    torch.save(content, tmp_path / "plain.pth")
    said = refusal(small, "--work-dir", tmp_path / "run", "--resume", tmp_path / "plain.pth")
    assert "carries no target norm" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "entry", "words"),
    [
        ("norm_fix", "gone", "it is no state of NormFix"),
        ("norm_fix", dict(target="gone"), "target is no number: it is damaged"),
        ("norm_fix", dict(names=7), "'names' is no list of names: it is damaged"),
        ("norm_fix", dict(target=torch.tensor(1e30)), "and its target is 1e+30"),
        ("reproducible", "gone", "entry 'reproducible' of the resumed checkpoint is damaged"),
        ("reproducible", dict(batches_done="two"), "entry 'reproducible' of the resumed"),
        ("reproducible", dict(batches_done=-1), "entry 'reproducible' of the resumed"),
    ],
)
def test_entries_of_ours_that_are_damaged(trained, small, tmp_path, key, entry, words):
    content = torch.load(trained / "iter_1.pth", weights_only=False)
    content[key] = content[key] | entry if isinstance(entry, dict) else entry
    torch.save(content, tmp_path / "damaged.pth")
    said = refusal(small, "--work-dir", tmp_path / "run", "--resume", tmp_path / "damaged.pth")
    assert said.startswith("error: ") and words in said


@pytest.mark.slow
@pytest.mark.parametrize("change", ["another optimizer", "an older mmengine"])
def test_the_state_of_another_run(trained, small, tmp_path, change):
    content = torch.load(trained / "iter_1.pth", weights_only=False)
    if change == "another optimizer":
        content["optimizer"]["param_groups"][0]["params"].pop()
    else:
        del content["message_hub"]
    torch.save(content, tmp_path / "other.pth")
    said = refusal(small, "--work-dir", tmp_path / "run", "--resume", tmp_path / "other.pth")
    assert "is not one of this config's runs" in said and "load_from" in said


def test_a_work_dir_that_cannot_be_made(small, tmp_path):
    (tmp_path / "file").touch()
    said = refusal(small, "--work-dir", tmp_path / "file/run")
    assert "file/run': Not a directory; choose another" in said


def test_a_config_that_fails_is_a_sentence(tmp_path):
    (tmp_path / "a.py").write_text("model = dict(type=Retina)")
    assert "a.py' cannot be read (NameError: name 'Retina' is not" in refusal(tmp_path / "a.py")


def test_settings_that_do_not_fit_the_config(small):
    said = refusal(small, "--cfg-options", "model.backbone.init_cfg.type=Pretrained")
    assert said.startswith("error: --cfg-options does not fit the config: init_cfg=")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("train_cfg.max_iter=3", "IterBasedTrainLoop cannot be built (TypeError"),
        ("train_dataloader.dataset.pipeline.2.type=Rezise", "Rezise cannot be built"),
        ("train_dataloader.sampler.type=Sampler", "Sampler cannot be built"),
        ("param_scheduler.0.strt=1", "LinearLR cannot be built"),
        ("val_evaluator.metric=bboxes", "CocoMetric cannot be built (KeyError"),
        ("randomness.sed=1", "the run cannot be built"),
        ("log_level=LOUD", "the run cannot be built (KeyError: 'LOUD')"),
    ],
)
def test_a_name_or_option_that_nothing_is_built_of(small, tmp_path, option, words):
    """What mmengine builds as the run starts, in the model's place."""
    said = refusal(small, "--work-dir", tmp_path / "run", "--cfg-options", option)
    assert said.startswith("error: The config is wrong: ") and words in said
    assert not list(tmp_path.rglob("*.pth"))


def test_a_loop_that_the_runner_builds_without_a_type():
    runner = SimpleNamespace(_train_dataloader=None)
    with pytest.raises(TypeError) as caught:
        Runner.build_train_loop(runner, dict(by_epoch=False, max_epochs=2))
    assert "the training loop cannot be built (TypeError" in misbuilt(caught.value)


def test_a_fault_of_what_is_built_keeps_its_traceback():
    """What a hook does in training is no matter of the config."""
    assert misbuilt(TypeError("in training")) is None


def test_nothing_to_go_on_from_starts_as_the_config_says(tmp_path, capsys):
    """A job that is always given --resume starts from `load_from` at first."""
    cfg = Config(dict(work_dir=str(tmp_path / "new"), load_from="weights.pth"))
    resuming.resume(cfg)
    assert (cfg.resume, cfg.load_from) == (False, "weights.pth")
    assert "the run starts anew" in capsys.readouterr().out
    resuming.resume(cfg, "named.pth")
    assert (cfg.resume, cfg.load_from) == (True, "named.pth")


def test_checkpoints_without_a_note_are_gone_on_from(tmp_path, capsys):
    """As in a work dir to which they were copied; mmengine would write over them."""
    cfg = Config(dict(work_dir=str(tmp_path), load_from=None))
    (tmp_path / "epoch_2.pth").write_bytes(b"cut off")
    resuming.resume(cfg)
    assert not cfg.resume and "starts anew and writes over them" in capsys.readouterr().err
    torch.save({}, tmp_path / "epoch_1.pth")
    resuming.resume(cfg)
    assert cfg.resume and cfg.load_from == str(tmp_path / "epoch_1.pth")


# -- two processes ------------------------------------------------------------------------------


def two_ranks(port: int, *arguments: object, **variables: str):
    script = ROOT / "tools/dist_train.sh"
    return start_any("bash", script, *arguments, MASTER_PORT=str(port), **variables)


@pytest.fixture(scope="module")
def refused_by_two(small, tmp_path_factory):
    """The hook finds variant weights on the first batch of each rank."""
    folder = tmp_path_factory.mktemp("refused")
    options = ("model.neck.conv_cfg=None", "find_unused_parameters=True")
    common = ("--work-dir", folder, "--cfg-options", *options)
    place = ("--nproc_per_node=2", "--master_port=29542", TRAIN, small, "--launcher", "pytorch")
    bare = start_any("python", "-m", "torch.distributed.run", *place, *common)
    return two_ranks(29541, small, 2, *common), bare


@pytest.mark.slow
def test_what_a_hook_refuses_on_two_ranks_is_one_line(refused_by_two):
    status, lines = ended(refused_by_two[0])
    said = "\n".join(lines)
    assert status == 1 and "Traceback" not in said and "elastic" not in said, said[-3000:]
    about = [line for line in lines if "not scale-invariant" in line]
    assert about == lines[-1:] and about[0].startswith("error: NormFixHook: ")


@pytest.mark.slow
def test_torchrun_s_own_table_shows_the_sentence(refused_by_two):
    """Where the user calls it, its traceback is not ours to keep away."""
    status, lines = ended(refused_by_two[1])
    assert status == 1
    assert sum(line.startswith("error: NormFixHook: ") for line in lines) == 1  # rank 0's
    told = [line for line in lines if line.startswith("  traceback : error: NormFixHook: ")]
    assert told and "not scale-invariant" in told[-1]


@pytest.mark.slow
def test_two_interrupted_ranks_say_it_once(small, tmp_path):
    often = "default_hooks.checkpoint.interval=3"
    words = (small, 2, "--work-dir", tmp_path / "run", "--cfg-options", *LONG, often)
    process = two_ranks(29543, *words)
    wait_for(tmp_path / "run/last_checkpoint", process)
    process.send_signal(signal.SIGINT)
    said = one_sentence(process, 130)
    assert "saved is" in said and "run/iter_" in said
    script = str(ROOT / "tools/dist_train.sh")
    command = shlex.split(said.partition("go on with: ")[2])
    assert command == ["bash", script, *map(str, words), "--resume"]


# -- the demo -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("saved", [True, False], ids=["after a checkpoint", "before"])
def test_the_interrupted_demo_says_where_it_goes_on(tmp_path, saved):
    folder = tmp_path / "out"
    pictures = "4" if saved else "640"
    process = start(
        ROOT / "tools/demo.py", "--out", folder, "--data", tmp_path / "data", "--pictures",
        pictures, "--length", "4000",
    )  # fmt: skip
    wait_for(folder / ("fixnorm/last_checkpoint" if saved else "fixnorm/demo_stamp"), process)
    os.killpg(process.pid, signal.SIGINT)
    said = one_sentence(process, 130)
    if saved:
        assert f"start the same command again: it goes on from {folder}/fixnorm/epoch_" in said
    else:
        assert "no checkpoint was written yet" in said


# -- the sentences ------------------------------------------------------------------------------


def deliberate():
    norm_fix_weights(torch.nn.Linear(2, 2), weights="all")


def fault():
    functional.conv2d(torch.ones(1), torch.ones(1))


def full():
    raise OSError(errno.ENOSPC, "No space left on device", "/full/iter_1.pth")


def out_of_memory():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def no_bytes():
    torch.empty(1 << 60)


def cut_short():
    raise RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed")


@pytest.mark.parametrize(
    ("main", "said"),
    [
        (deliberate, "error: Unknown weights='all'; choose 'conv' or 'conv+classifier'."),
        (full, "error: '/full/iter_1.pth': No space left on device; the disk is full"),
        (out_of_memory, "error: The memory of the GPU does not suffice (CUDA out of memory."),
        (no_bytes, "error: The memory of this machine does not suffice"),
        (cut_short, "error: A checkpoint could not be written whole; the disk is full"),
        (lambda: (_ for _ in ()).throw(BadInput("two\nlines \x1b[2J")), "error: two lines ?[2J"),
    ],
)
def test_what_is_said(main, said):
    with pytest.raises(SystemExit) as end:
        ending.run(main)
    assert end.value.code.startswith(said) and "\n" not in end.value.code


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError):
        ending.run(fault)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_a_library_turns_into_an_error_of_its_own(number, capsys):
    """As mmengine does while it prints a config: `except: raise SyntaxError(the whole config)`."""

    def main():
        with ending.going_on("the same command goes on"), _terminated_as_interrupted():
            try:
                signal.raise_signal(number)
            except BaseException:
                raise SyntaxError("five hundred lines") from None

    with pytest.raises(SystemExit) as end:
        ending.run(main)
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"


def test_the_handlers_of_the_process_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    ending.run(lambda: None)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(
    "given",
    [
        ["train.py", "c.py", "--resume", "--amp"],
        ["train.py", "c.py", "--resume", "a b.pth", "--amp"],
        ["train.py", "c.py", "--resume=a.pth", "--amp"],
        ["train.py", "c.py", "--amp"],
    ],
)
def test_the_command_that_goes_on(given, monkeypatch):
    monkeypatch.setattr(sys, "argv", given)
    monkeypatch.delenv(ending.COMMAND, raising=False)
    assert line(resumed(ending.typed())) == "python train.py c.py --amp --resume"
    # A console command that the shell does not find was typed with its place.
    monkeypatch.setattr(sys, "argv", ["/far/normfix", "train", *given[1:]])
    assert line(resumed(ending.typed())) == "/far/normfix train c.py --amp --resume"


@pytest.mark.slow
def test_the_printed_command_is_one(trained, small, monkeypatch):
    """Also where the config stands behind an option that takes several words."""
    monkeypatch.setattr(sys, "argv", [str(TRAIN), str(small), "--cfg-options", "a.b=1", "c='d e'"])
    words = shlex.split(resuming.how_to_go_on(str(trained)).partition("go on with: ")[2])
    assert words == ["python", str(TRAIN), str(small), "--cfg-options", "a.b=1", "c='d e'",
                     "--resume"]  # fmt: skip
