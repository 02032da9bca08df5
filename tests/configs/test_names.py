"""Configs are named by the rule of configs/README.md, truthfully, and listed where they belong."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
EVERY = sorted(path for path in CONFIGS.glob("*/*.py") if path.parent.name != "_base_")
TABLES = [path for path in EVERY if path.parent.name == "classification"]
PATHS = [path for path in EVERY if path not in TABLES]
RULE = re.compile(
    r"[a-z-]+_(r18|r50|r101|lite0)(_fpn|-d8)?(_ohem)?_(?P<method>baseline|wn|ws|ws-eps|wn-eps|fixnorm)"
    r"_(?P<gpus>\d)xb(?P<batch>\d+)-(?P<cosine>cosine-)?(?P<length>\d+)(?P<unit>e|k|iters)"
    r"_(?P<data>coco|cityscapes-769x769|folder|digits)"
)

every_config = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
every_file = pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)


@cache
def config(path: Path) -> Config:
    """To be read only."""
    return Config.fromfile(path, import_custom_modules=False)


@every_config
def test_a_name_obeys_the_rule_and_says_what_is_inside(path):
    name = RULE.fullmatch(path.stem)
    assert name, f"{path.stem} does not obey the rule of configs/README.md"
    cfg = config(path)

    gpus, batch = int(name["gpus"]), int(name["batch"])
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=gpus * batch)
    key = "max_epochs" if name["unit"] == "e" else "max_iters"
    assert cfg.train_cfg[key] == int(name["length"]) * (1000 if name["unit"] == "k" else 1)
    if name["cosine"]:
        assert cfg.param_scheduler[-1].type == "CosineAnnealingLR"

    hooks = [hook.type for hook in cfg.get("custom_hooks", [])]
    optim, normalize = cfg.optim_wrapper, cfg.model.backbone.get("normalize", {})
    method = name["method"]
    assert ("NormFixHook" in hooks) == (method == "fixnorm")
    assert (optim.optimizer.weight_decay == 0) == (method == "fixnorm")
    constructor = optim.get("constructor")
    assert constructor == ("EpsShiftOptimWrapperConstructor" if "-eps" in method else None)
    if method in ("baseline", "ws", "ws-eps"):
        assert normalize.get("form") == (None if method == "baseline" else "WS")
    if method in ("wn", "wn-eps"):
        assert normalize.form == "WN"


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_table_is_named_by_its_method_batch_and_data(path):
    name = re.fullmatch(
        r"(eps-shift|fixnorm)_(?P<gpus>\d+)xb(?P<batch>\d+)(-(?P<length>\d+)e)?_(?P<data>\w+)",
        path.stem,
    )
    cfg = config(path)
    gpus, batch = int(name["gpus"]), int(name["batch"])
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=gpus * batch)
    assert name["length"] is None or cfg.train_cfg.max_epochs == int(name["length"])
    assert cfg.train_dataloader.dataset.type.lower() == name["data"]


@every_file
def test_the_hooks_that_all_share_come_from_one_base(path):
    cfg = config(path)
    shared = dict(weight_table="WeightTableHook", reproducible="ReproducibleHook")
    shared |= dict(risk="CrossBoundaryRiskHook")
    for key, kind in shared.items():
        assert cfg.default_hooks[key] == dict(type=kind)
        assert kind not in path.read_text()
    assert not set(shared.values()) & {hook.type for hook in cfg.get("custom_hooks", [])}


@every_file
def test_a_config_is_listed_in_its_family(path):
    row = f"| [{path.stem}]({path.name}) |"
    assert row in (path.parent / "README.md").read_text()
    metafile = path.parent / "metafile.yml"
    if metafile.exists():
        models = yaml.safe_load(metafile.read_text())["Models"]
        (model,) = (model for model in models if model["Name"] == path.stem)
        assert model["Config"] == path.relative_to(CONFIGS.parent).as_posix()


@every_file
def test_a_header_has_command_time_result_and_source(path):
    header = path.read_text().split('"""')[1]
    assert re.search(rf"configs/{path.parent.name}/{path.name}\b", header)
    for word in ("Command", "Run time:", "Expected", "Source:"):
        assert word in header, word


def test_the_lists_name_no_config_that_is_not_there():
    stems = {path.stem for path in EVERY}
    assert len(stems) == len(EVERY)  # `mim` finds a config by its base name
    for readme in CONFIGS.glob("*/README.md"):
        listed = re.findall(r"^\| \[([^]]+)\]\(\1\.py\)", readme.read_text(), re.MULTILINE)
        assert sorted(listed) == sorted(path.stem for path in readme.parent.glob("*.py"))
    families = re.findall(r"^\| \[(\w+)\]", (CONFIGS / "README.md").read_text(), re.MULTILINE)
    assert set(families) == {path.parent.name for path in EVERY}
