"""Settings of ``--cfg-options`` that nothing reads are refused; the others change the config."""

from pathlib import Path

import pytest

from normfix_mm.errors import BadInput
from normfix_mm.run.command_line import read_config

TEXT = """
data_root = 'data/'
max_epochs = 3
train_dataloader = dict(batch_size=2, dataset=dict(type='CocoDataset', data_root=data_root))
val_dataloader = dict(dataset=dict(dataset=dict(type='CocoDataset', data_root=data_root)))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
model = dict(type='RetinaNet', test_cfg=dict(score_thr=0.05, nms=dict(type='nms')))
param_scheduler = [dict(type='LinearLR', end=5)]
"""


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "own.py").write_text(TEXT)
    return tmp_path / "own.py"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("data_root", "write 'train_dataloader.dataset.data_root', 'val_dataloader.dataset.datas"),
        ("max_epochs", "write 'train_cfg.max_epochs', or a config with `_base_`"),
        ("train_confg.max_epochs", "there is no setting 'train_confg', but 'train_cfg'"),
        ("lr", "there is no setting 'lr'"),
    ],
)
def test_what_nothing_reads_is_refused(config, key, words):
    """mmengine takes it, and trains as before."""
    with pytest.raises(BadInput) as caught:
        read_config(config, {key: 1})
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        *("train_cfg.max_epochs", "randomness.seed", "optim_wrapper.clip_grad.max_norm"),
        *("param_scheduler.0.end", "load_from", "tune_cfg.trials", "sync_bn", "env_cfg.cudnn"),
    ],
)
def test_what_is_read_is_set(config, key, capsys):
    cfg = read_config(config, {key: 7})
    node = cfg
    for name in key.split("."):
        node = node[int(name)] if name.isdigit() else node[name]
    assert node == 7 and capsys.readouterr().err == ""


def test_a_name_that_is_new_beside_one_almost_equal_is_said(config, capsys):
    read_config(config, {"model.test_cfg.score_thrr": 0.5})
    assert "'score_thrr' is new beside 'score_thr'; is it misspelt?" in capsys.readouterr().err
