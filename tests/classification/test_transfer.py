"""From a classifier into a detector: a checkpoint says what its weights are, and is held to it."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from helpers.small_detectors import save, stock
from helpers.tool import call
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import normfix_mm.classification  # noqa: F401  registers backbones and heads
from normfix_mm import preflight
from normfix_mm.checkpoints import files
from normfix_mm.errors import BadInput

pytestmark = pytest.mark.slow

NARROW = dict(depth=18, base_channels=16, stem_channels=16)
KINDS = {
    "ws": (dict(type="NormalizedResNet", normalize=dict(form="WS")), "LinearClsHead"),
    "wn": (dict(type="NormalizedResNet", normalize=dict(form="WN", gain=False)), "LinearClsHead"),
    "fixnorm": (dict(type="ResNet"), "FixNormLinearClsHead"),
}
DETECTORS = {
    "ws": dict(type="NormalizedResNet", normalize=dict(form="WS")),
    "wn": dict(type="NormalizedResNet", normalize=dict(form="WN", gain=False)),
    "gain": dict(type="NormalizedResNet", normalize=dict(form="WN", gain=True)),
    "plain": dict(type="ResNet"),
}


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory) -> dict[str, Path]:
    """Checkpoints of classifiers, as mmengine writes them."""
    folder = tmp_path_factory.mktemp("classifiers")
    paths = {}
    for name, (backbone, head) in KINDS.items():
        cfg = Config(
            dict(
                default_scope="mmpretrain",
                custom_imports=dict(
                    imports=["normfix_mm.classification"], allow_failed_imports=False
                ),
                model=dict(
                    type="ImageClassifier",
                    backbone=backbone | NARROW,
                    neck=dict(type="GlobalAveragePooling"),
                    head=dict(type=head, num_classes=10, in_channels=128),
                ),
                train_dataloader=dict(dataset=dict(metainfo=dict(classes=tuple("abcdefghij")))),
            )
        )
        torch.manual_seed(1)
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            model = MODELS.build(copy.deepcopy(cfg.model))
        model.init_weights()
        save(cfg, model, folder / name)
        paths[name] = folder / f"{name}.pth"
    return paths


def detector(real_data: Path, kind: str, checkpoint: Path, prefix: str | None) -> Config:
    """A RetinaNet whose backbone starts from the checkpoint."""
    cfg = stock("retinanet-ws", real_data)
    cfg.custom_imports = dict(imports=["normfix_mm.detection"], allow_failed_imports=False)
    init = dict(type="Pretrained", checkpoint=str(checkpoint))
    cfg.model.backbone.update(
        DETECTORS[kind], init_cfg=init | (dict(prefix=prefix) if prefix else {})
    )
    cfg.default_scope = "mmdet"
    return cfg


def start(cfg: Config) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(copy.deepcopy(cfg.model))
    model.init_weights()
    return model


@pytest.mark.parametrize(
    ("classifier", "kind"), [("ws", "ws"), ("wn", "wn"), ("fixnorm", "plain"), ("fixnorm", "gain")]
)
@pytest.mark.parametrize("converted", [False, True], ids=["as trained", "converted"])
def test_a_detector_of_the_same_kind_starts_from_it(
    classifiers, real_data, tmp_path, classifier, kind, converted
):
    source, prefix = classifiers[classifier], "backbone."
    state = files.read(source)[0]
    if converted:
        call("convert_checkpoint.py", source, tmp_path / "backbone.pth")
        source, prefix = tmp_path / "backbone.pth", None
    cfg = detector(real_data, kind, source, prefix)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        preflight.check(cfg, ("train",))
    backbone = start(cfg).backbone.state_dict()
    for name, value in state.items():
        if name.startswith("backbone."):
            torch.testing.assert_close(backbone[name.removeprefix("backbone.")], value)


@pytest.mark.parametrize(
    ("classifier", "kind", "have", "want"),
    [
        ("ws", "plain", "WS", "plain"),
        ("ws", "gain", "WS", "WN with gain"),
        ("wn", "ws", "WN", "WS"),
        ("wn", "plain", "WN", "plain"),
        ("fixnorm", "ws", "plain", "WS"),
    ],
)
@pytest.mark.parametrize("converted", [False, True], ids=["as trained", "converted"])
def test_one_of_another_kind_is_refused_with_both_named(
    classifiers, real_data, tmp_path, classifier, kind, have, want, converted
):
    source, prefix = classifiers[classifier], "backbone."
    if converted:
        call("convert_checkpoint.py", source, tmp_path / "backbone.pth")
        source, prefix = tmp_path / "backbone.pth", None
    with pytest.raises(BadInput, match=f"holds {have} weights where the model has {want} ones"):
        preflight.check(detector(real_data, kind, source, prefix), ("train",))
