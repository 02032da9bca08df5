"""A training that has diverged stops before it writes its weights over good ones."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from normfix_mm.engine import FiniteWeightsHook
from normfix_mm.errors import Stopped


class Line(BaseModel):
    """One weight; the losses of its iterations are given."""

    def __init__(self, factors):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("mask", torch.tensor([-torch.inf]))
        self.factors = iter(factors)

    def forward(self, inputs, mode):
        return dict(loss=(self.weight * next(self.factors)).sum())


def train(tmp_path, factors, by_epoch=True):
    """Two epochs of two iterations."""
    loop = dict(max_epochs=2) if by_epoch else dict(max_iters=4)
    checkpoint = dict(type="CheckpointHook", interval=1, by_epoch=by_epoch)
    model = Line(factors)
    runner = Runner(
        model,
        work_dir=str(tmp_path),
        train_dataloader=DataLoader([dict(inputs=0.0)] * 2),
        train_cfg=dict(by_epoch=by_epoch, **loop),
        optim_wrapper=OptimWrapper(SGD(model.parameters(), lr=0.1)),
        default_hooks=dict(checkpoint=checkpoint, logger=dict(type="LoggerHook", interval=1)),
        default_scope="mmdet",  # as the tests beside, which share a process
        experiment_name=tmp_path.name,
    )
    runner.register_hook(FiniteWeightsHook())
    runner.train()
    return sorted(path.name for path in tmp_path.glob("*.pth"))


NAN = float("nan")


@pytest.mark.parametrize(
    ("factors", "iteration"),
    [([1, NAN, 1, 1], 2), ([1, 1, NAN, 1], 4), ([1, 1, 1, NAN], 4), ([NAN, 1, 1, 1], 2)],
)
def test_weights_that_became_nan_are_not_saved(tmp_path, factors, iteration):
    with pytest.raises(Stopped, match=rf"weight became not finite.*iteration {iteration}\)"):
        train(tmp_path, factors)
    saved = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert saved == (["epoch_1.pth"] if iteration > 2 else [])


def test_the_last_iteration_of_a_loop_without_epochs_is_looked_at(tmp_path):
    with pytest.raises(Stopped, match="iteration 4"):
        train(tmp_path, [1, 1, 1, NAN], by_epoch=False)
    assert not (tmp_path / "iter_4.pth").exists()


def test_a_finite_training_goes_on(tmp_path):
    """With a buffer that is infinite on purpose."""
    assert train(tmp_path, [1, 2, 3, 4]) == ["epoch_1.pth", "epoch_2.pth"]


def test_a_step_that_was_skipped_is_none_of_its(tmp_path, monkeypatch):
    """As mixed precision does where a loss overflows."""
    monkeypatch.setattr(OptimWrapper, "update_params", lambda self, loss: None)
    assert train(tmp_path, [1, NAN, NAN, NAN]) == ["epoch_1.pth", "epoch_2.pth"]
