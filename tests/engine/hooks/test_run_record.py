"""How a run was made is written down without a host, a user or a private path."""

import getpass
import json
import platform
import sys
from pathlib import Path

import mmengine
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

import normfix_mm
from normfix_mm.engine import RunRecordHook
from normfix_mm.engine.hooks.run_record import FILE, shortened


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode):
        return dict(loss=self.weight.sum())


def test_a_run_says_how_it_was_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = Path(normfix_mm.__file__).parents[1] / "tools/train.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "my.py"), "--amp"])
    model = Line()
    runner = Runner(
        model,
        work_dir=str(tmp_path / "run"),
        train_dataloader=DataLoader([dict(inputs=0.0)]),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=OptimWrapper(SGD(model.parameters(), lr=0.1)),
        randomness=dict(seed=5),
        default_scope="mmdet",
        experiment_name=tmp_path.name,
    )
    runner.register_hook(RunRecordHook())
    runner.train()
    text = (Path(runner.log_dir) / FILE).read_text()
    told = json.loads(text)
    assert told["command"] == "python tools/train.py my.py --amp"
    assert told["seed"] == 5 and told["ended"] is True and told["seconds"] < 60
    assert told["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert told["versions"]["normfix_mm"] == normfix_mm.__version__
    assert told["versions"]["mmengine"] == mmengine.__version__
    assert "CPU core" in told["machine"] or torch.cuda.is_available()
    for private in (platform.node(), str(tmp_path), f"/{getpass.getuser()}/"):
        assert private not in text


def test_paths_are_those_one_would_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    words = ["/usr/bin/python3.11", str(tmp_path / "tools/train.py"), "a b.py"]
    words += [f"--work-dir={tmp_path}/run", "/home/somebody/da ta", "x.y=/home/somebody/z"]
    words += ["x.y=/mnt/data", "-m", "a"]
    assert shortened(words) == (
        "python tools/train.py 'a b.py' --work-dir=run ~/'da ta' x.y=\"$HOME\"/z x.y=/mnt/data -m a"
    )
