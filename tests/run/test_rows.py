"""One row of a config that is a table of results."""

import copy
from pathlib import Path

import pytest
from mmengine.config import Config

from normfix_mm.errors import BadInput
from normfix_mm.run.command_line import read_config
from normfix_mm.run.rows import choose_row

TABLES = Path(__file__).parents[2] / "configs/classification"
TABLE = Config(
    dict(
        model=dict(depth=50, normalize=[], steps=[dict(size=1), dict(size=2)]),
        optimizer=dict(lr=0.1, decay=0.0),
        options=dict(
            network=dict(small={}, large={"model.depth": 101, "model.steps.1.size": 5}),
            lr=["optimizer.lr"],
            lam=["optimizer.decay", "model.lam"],
            method=dict(ws={"model.normalize": dict(_delete_=True, form="WS")}, none={}),
            # Later groups win, and reach into what earlier ones have made.
            depthwise=["model.normalize.depthwise"],
        ),
        rows=dict(
            plain=dict(network="small", method="none", top1=70.0),
            all=dict(network="large", method="ws", depthwise=True, lam=0.5, lr=0.2, top1=None),
            wrong=dict(network="huge"),
        ),
    )
)


def row(name: str | None) -> Config:
    config = copy.deepcopy(TABLE)
    choose_row(config, name)
    return config


def test_a_row_is_the_config_with_its_options_and_nothing_of_the_others():
    config = row("all")
    assert config.model == dict(
        depth=101, normalize=dict(form="WS", depthwise=True), steps=[dict(size=1), dict(size=5)],
        lam=0.5,
    )  # fmt: skip
    assert config.optimizer == dict(lr=0.2, decay=0.5)
    assert config.row == dict(name="all", top1=None)
    assert "rows" not in config and "options" not in config
    assert row("plain").model == TABLE.model
    assert TABLE.model.depth == 50  # which was copied


def test_the_row_s_own_config_needs_no_row(tmp_path):
    path = tmp_path / "row.py"
    path.write_text(row("all").pretty_text)
    assert read_config(str(path)).model == row("all").model


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "Name one with --row: the config is a table of 3 rows, plain, all, wrong"),
        ("r50", "There is no row 'r50': the config is a table of 3 rows"),
        ("wrong", "network='huge', which is none of the config's options small, large"),
    ],
)
def test_a_name_that_is_wrong_or_missing_is_a_sentence(name, message):
    with pytest.raises(BadInput, match=message):
        row(name)


def test_a_config_without_rows_takes_no_name():
    config = Config(dict(model=dict()))
    choose_row(config, None)
    with pytest.raises(BadInput, match="has no rows, so there is no 'r50'"):
        choose_row(config, "r50")


def test_options_of_the_command_line_come_last():
    path = str(TABLES / "fixnorm_16xb64_imagenet.py")
    config = read_config(path, {"optim_wrapper.optimizer.lr": 9.0}, "r50d_fixnorm-120e")
    assert config.optim_wrapper.optimizer.lr == 9.0 and config.model.head.alpha == 0.5
