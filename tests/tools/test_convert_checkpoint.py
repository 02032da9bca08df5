"""The command as a user types it: files in, file and report out, one sentence where it refuses."""

import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.config import Config
from safetensors.torch import save_file

from normfix_mm.checkpoints import files
from normfix_mm.preflight import check

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools/convert_checkpoint.py"
CONFIG = """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['normfix_mm.detection'], allow_failed_imports=False)
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, type='NormalizedResNet',
                  normalize=dict({rule}), norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
    bbox_head=dict(num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1))
train_dataloader = None
val_dataloader = None
val_evaluator = None
"""


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command in this process; returns what it printed, or the sentence it ended with."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        code = None
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        assert code is None or isinstance(code, str), printed.err
        return code or printed.out

    return run


@pytest.fixture(scope="module")
def state():
    """A small ResNet-18 as torchvision would save it."""
    torch.manual_seed(0)
    state = ResNet(18, base_channels=8, stem_channels=8).state_dict()
    return state | {"fc.weight": torch.randn(5, 64), "fc.bias": torch.zeros(5)}


@pytest.fixture
def configs(tmp_path):
    for name, rule in (("ws", "form='WS'"), ("wn", "form='WN', gain=True")):
        (tmp_path / f"{name}.py").write_text(CONFIG.format(rule=rule))
    return tmp_path


def test_names_alone(command, state, tmp_path):
    save_file(state, tmp_path / "in.safetensors")
    report = tmp_path / "report.md"
    printed = command(tmp_path / "in.safetensors", tmp_path / "out.pth", "--report", report)
    assert report.read_text() == printed
    assert "taken: 120, renamed: 0, left: 2, shape mismatch: not compared" in printed
    found, meta = files.read(tmp_path / "out.pth")
    assert found.keys() == state.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(found[name], state[name]) for name in found)
    assert meta == dict(normfix_source="resnet", normfix_form={})


def test_what_ruins_training_is_refused_then_done_as_asked(command, state, configs):
    """ws_resnet18 into WN: refused, folded; and the file then passes the check before training."""
    source, out = configs / "ws_resnet18.pth.tar", configs / "out.pth"
    torch.save(dict(arch="ws", state_dict={f"module.{n}": v for n, v in state.items()}), source)
    refused = command(source, out, "--config", configs / "wn.py")
    assert refused.startswith("error: The checkpoint holds WS weights") and "--fold" in refused
    assert not out.exists()

    for config, options, suits in (("ws", [], True), ("wn", ["--fold"], True), ("wn", [], False)):
        options += [] if suits else ["--form", "WS", "--allow-mismatch"]
        printed = command(source, out, "--config", configs / f"{config}.py", "--as-model", *options)
        assert f"wrote {out}" in printed
        cfg = Config.fromfile(configs / f"{config}.py")
        cfg.load_from = str(out)
        if suits:
            check(cfg, ())
        else:
            with pytest.warns(UserWarning, match="--allow-mismatch: it holds WS weights"):
                check(cfg, ())


def test_plain_to_ws_is_measured(command, state, configs, real_data):
    source, out = configs / "r18.pth", configs / "out.pth"
    torch.save(dict(model=state), source)
    image = min((real_data / "bccd/images/val").glob("*.jpg"))
    plain = [source, out, "--config", configs / "ws.py", "--form", "plain"]
    assert "--absorb-into-bn" in command(*plain) and not out.exists()
    printed = command(*plain, "--absorb-into-bn", "--image", image)
    assert "| layer1.0.conv1 | " in printed
    assert "on the image, evaluation mode: " in printed and "training mode: " in printed
    plain[3] = configs / "wn.py"
    printed = command(*plain, "--image", image)
    line = next(line for line in printed.splitlines() if "evaluation mode" in line)
    assert max(float(figure) for figure in line.split(": ")[1].split(", ")) < 1e-5


def test_parts_of_a_detector(command, configs):
    from normfix_mm.models.build import build_model

    cfg = Config.fromfile(configs / "wn.py")
    detector = build_model(cfg)
    source, out = configs / "detector.pth", configs / "out.pth"
    torch.save(dict(state_dict=detector.state_dict(), meta=dict(cfg=cfg.pretty_text)), source)
    printed = command(source, out, "--part", "neck", "--config", configs / "ws.py")
    assert "not in the neck" in printed and "plain (8), from the config" in printed
    found = files.read(out)[0]
    assert found.keys() == detector.neck.state_dict().keys()
    assert "no part 'roi_head'" in command(source, out, "--part", "roi_head")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["absent.pth", "out.pth"], "'absent.pth' does not exist"),
        (["{src}", "{src}/out.pth"], "cannot be written"),
        (["{src}", "out.pth", "--config", "absent.py"], "'absent.py' or a base of it"),
        (["{src}", "out.pth", "--image", "x.jpg"], "--image needs --config"),
        (["{src}", "out.pth", "--absorb-into-bn"], "--absorb-into-bn needs --config"),
        (["{src}", "out.pth", "--config", "{dir}/wn.py", "--image", "x.jpg"], "'x.jpg' cannot be"),
        (["{src}", "out.pth", "--part", "neck"], "has no 'neck' but a backbone"),
    ],
)
def test_mistakes_get_one_sentence(command, state, configs, monkeypatch, arguments, expected):
    monkeypatch.chdir(configs)
    torch.save(state, "in.pth")
    text = command(*(a.format(src="in.pth", dir=configs) for a in arguments))
    assert text.startswith("error: ") and expected in text and "\n" not in text
    assert not Path("out.pth").exists()


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_hostile_file(command, tmp_path):
    mark, source = tmp_path / "mark", tmp_path / "in.pth"
    torch.save(dict(state_dict={"a": torch.ones(1)}, meta=Payload(mark)), source)
    text = command(source, tmp_path / "out.pth")
    assert text.startswith("error: ") and "could run code" in text and "\n" not in text
    assert os.listdir(tmp_path) == ["in.pth"]


def test_it_does_not_write_over_what_it_reads(command, state, tmp_path):
    """A run's checkpoint would lose its optimizer."""
    torch.save(dict(state_dict=state, optimizer={}), tmp_path / "epoch_1.pth")
    (tmp_path / "link.pth").symlink_to(tmp_path / "epoch_1.pth")
    before = (tmp_path / "epoch_1.pth").read_bytes()
    for name in ("epoch_1.pth", "link.pth"):
        said = command(tmp_path / "epoch_1.pth", tmp_path / name)
        assert "is the checkpoint that is read" in said and "name another file" in said
    assert (tmp_path / "epoch_1.pth").read_bytes() == before


def test_names_in_a_checkpoint_do_not_rule_the_terminal(command, state, tmp_path):
    torch.save(state | {"fc\x1b[2J.weight": torch.ones(2)}, tmp_path / "a.pth")
    assert "\x1b" not in command(tmp_path / "a.pth", tmp_path / "b.pth")


def test_a_report_that_cannot_be_written_is_a_sentence(command, state, tmp_path):
    torch.save(state, tmp_path / "a.pth")
    said = command(tmp_path / "a.pth", tmp_path / "b.pth", "--report", tmp_path / "none/report.txt")
    assert said.startswith("error: ") and "No such file or directory; choose another" in said
