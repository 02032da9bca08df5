"""The word is about the whole run, also one that was stopped and gone on with."""

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from normfix_mm.engine.hooks.early_word import EarlyWordHook


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs, mode="tensor", **_):
        if mode == "loss":
            return dict(loss=(self.weight * torch.as_tensor(inputs).float() - 1).square().sum())
        return [dict(answer=1.0)]


class Found(BaseMetric):
    """What the epochs find, one after the other."""

    default_prefix = "own"

    def __init__(self, values):
        super().__init__()
        self.values = list(values)

    def process(self, data_batch, data_samples):
        self.results.append(None)

    def compute_metrics(self, results):
        value = self.values.pop(0)
        return {} if value is None else dict(found=value)


def trained(folder, epochs, values, after, resume=False) -> str:
    """The log of a run of this length with the word after so many iterations."""
    model = Line()
    data = DataLoader([1.0], collate_fn=lambda items: dict(inputs=items))
    runner = Runner(
        model,
        work_dir=str(folder),
        train_dataloader=data,
        val_dataloader=DataLoader([1.0], collate_fn=lambda items: dict(inputs=items)),
        val_cfg=dict(),
        val_evaluator=Evaluator(Found(values)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=OptimWrapper(SGD(model.parameters(), lr=0.0)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1)),
        resume=resume,
        experiment_name=f"{folder.parent.name}{resume}",
    )
    runner.register_hook(EarlyWordHook("own/found", 0.005, after))
    runner.train()
    return next(iter(sorted((folder / runner.timestamp).glob("*.log")))).read_text()


def test_what_was_found_before_the_run_was_stopped_counts(tmp_path):
    run = tmp_path / "run"
    assert "nothing is found yet" not in trained(run, 2, [0.5, 0.0], after=3)
    assert "nothing is found yet" not in trained(run, 4, [0.0, 0.0], after=3, resume=True)


def test_nothing_found_before_and_after_is_said_once(tmp_path):
    run = tmp_path / "run"
    assert "nothing is found yet" not in trained(run, 1, [None], after=2)
    log = trained(run, 4, [None, 0.0, 0.0], after=2, resume=True)
    assert log.count("nothing is found yet") == 1
