"""Folding a small classifier: another network is refused, and what is written can be read."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from helpers.tool import call
from mmengine.config import Config
from PIL import Image

pytest.importorskip("mmpretrain")
from normfix_mm.errors import BadInput
from normfix_mm.export import fold_out as module
from normfix_mm.export.fold_out import fold_out
from normfix_mm.export.same_network import load
from normfix_mm.export.stock_config import as_python, stock_config
from normfix_mm.models.build import build_model

TEXT = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['normfix_mm.classification'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[123., 116., 103.], std=[58., 57., 57.], to_rgb=True),
    backbone=dict(type='NormalizedResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='FixNormLinearClsHead', num_classes=5, in_channels=64, alpha=2.0,
              loss=dict(type='CrossEntropyLoss')))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
test_dataloader = dict(batch_size=1, dataset=dict(type='CustomDataset', pipeline=test_pipeline))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Config, checkpoint and image."""
    folder = tmp_path_factory.mktemp("trained")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (48, 64, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(folder / "a.png")
    (folder / "m.py").write_text(TEXT)
    cfg = Config.fromfile(folder / "m.py")
    torch.manual_seed(0)
    model = build_model(cfg)
    model.init_weights()
    model.head.fc.g.data.fill_(4.0)  # below the cap of alpha=2, above that of 0.5
    meta = dict(cfg=cfg.pretty_text)
    torch.save(dict(meta=meta, state_dict=model.state_dict()), folder / "m.pth")
    return folder


def test_the_command_concludes_in_words(folder, tmp_path, capsys):
    files = folder / "m.py", folder / "m.pth", tmp_path / "deployed"
    call("fold.py", *files, "--image", folder / "a.png")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "the folded model computes the same as the trained one, but for rounding"


def folded(folder: Path, out: Path, text: str = TEXT) -> list[str]:
    cfg = out.with_suffix(".given.py")
    cfg.write_text(text)
    return fold_out(Config.fromfile(cfg), folder / "m.pth", out, folder / "a.png")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("alpha=0.5", "head.fc.alpha is 0.5 and was 2.0"),
        ("gain_start='weight'", "head.fc.alpha is 1.0 and was 2.0"),
    ],
)
def test_another_alpha_than_was_trained_is_refused(folder, tmp_path, changed, said):
    with pytest.raises(BadInput, match=f"not the one that .*m.pth' was trained with: {said}, so"):
        folded(folder, tmp_path / "out", TEXT.replace("alpha=2.0", changed))
    assert not (tmp_path / "out").exists()


def test_another_preprocessing_is_said(folder, tmp_path):
    with pytest.warns(UserWarning, match=r"'model.data_preprocessor.mean.0' of the config are not"):
        folded(folder, tmp_path / "out", TEXT.replace("123.", "0."))
    assert (tmp_path / "out").is_dir()


def test_the_config_it_was_trained_with_is_folded_without_a_word(folder, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*of the config.*")
        folded(folder, tmp_path / "out")
    text = (tmp_path / "out/out.given.py").read_text()
    assert text.splitlines()[0].endswith('; needs nothing of it."""')


def test_a_preprocessor_beside_the_model_is_part_of_it(folder, tmp_path, monkeypatch):
    """As MMPretrain's own configs have it; what builds the model alone would not normalize."""
    inside = (
        "    data_preprocessor=dict(mean=[123., 116., 103.], std=[58., 57., 57.], to_rgb=True),\n"
    )
    assert inside in TEXT
    text = f"{TEXT.replace(inside, '')}{inside.strip().rstrip(',')}\n"
    seen = []
    compare = module.compare
    monkeypatch.setattr(module, "compare", lambda *a: seen.extend(a[:2]) or compare(*a))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*of the config.*")
        folded(folder, tmp_path / "out", text)
    for model in seen:
        assert model.data_preprocessor.mean.flatten().tolist() == [123.0, 116.0, 103.0]
    written = Config.fromfile(tmp_path / "out/out.given.py")
    assert written.model.data_preprocessor.std == [58.0, 57.0, 57.0]


@pytest.mark.parametrize(
    "changed",
    [TEXT.replace("test_dataloader", "val_dataloader"), TEXT + "test_dataloader = None\n"],
    ids=["only val_dataloader", "test_dataloader=None"],
)
def test_an_image_is_read_without_a_test_dataloader(folder, tmp_path, changed):
    assert "classes: scores differ" in "; ".join(folded(folder, tmp_path / "out", changed))


def test_without_any_pipeline_it_is_a_sentence(folder):
    cfg = Config(dict(test_dataloader=None))
    with pytest.raises(BadInput, match="does not say how an image is read for testing"):
        load(cfg, folder / "a.png")


def test_infinity_in_a_config_is_written_so_that_it_can_be_read(folder, tmp_path):
    clip = "dict(max_norm=float('inf'), least=-float('inf'), inf=1, none=float('nan'), a='inf')"
    folded(folder, tmp_path / "out", TEXT + f"optim_wrapper = dict(clip_grad={clip})\n")
    found = Config.fromfile(tmp_path / "out/out.given.py").optim_wrapper.clip_grad
    none = found.pop("none")
    assert none != none
    assert found == dict(max_norm=float("inf"), least=-float("inf"), inf=1, a="inf")
    assert as_python("a = dict(inf=inf, b='nan')\n") == "a = dict(inf=float('inf'), b='nan')\n"


def test_a_link_to_nothing_is_seen_before_the_work(folder, tmp_path, monkeypatch):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(module, "build_model", lambda _: pytest.fail("it was built"))
    with pytest.raises(BadInput, match="out' exists already"):
        folded(folder, tmp_path / "out")


MINE = """
from mmpretrain.models import LinearClsHead
from mmengine.registry import MODELS
{imports}

@MODELS.register_module(force=True)
class {name}({parents}LinearClsHead):
    classifier = 'fc'
"""


@pytest.mark.parametrize("ours", [True, False])
def test_the_header_says_what_a_module_of_the_user_s_needs(folder, tmp_path, monkeypatch, ours):
    name = "HeadOfOurs" if ours else "HeadOfTheirs"
    imports = "from normfix_mm.models.mixins import FixNorm" if ours else ""
    parents = "FixNorm, " if ours else ""
    home = f"{name.lower()}_module"
    text = MINE.format(imports=imports, name=name, parents=parents)
    (tmp_path / f"{home}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    text = TEXT.replace("imports=[", f"imports=['{home}', ")
    cfg = Config.fromstring(text, ".py")
    try:
        needs = module._needs(stock_config(cfg))
    finally:
        sys.modules.pop(home)
    said = f"plain layers, but it imports {home}, which needs this package"
    assert needs == (said if ours else f"needs nothing of it, but imports {home}")


def test_a_backbone_of_timm_does_not_fetch_its_weights_again():
    cfg = Config(
        dict(
            default_scope="mmpretrain",
            model=dict(backbone=dict(type="TIMMBackbone", pretrained=True, checkpoint_path="a")),
            visualizer=dict(pretrained=True),
        )
    )
    stock = stock_config(cfg)
    assert stock.model.backbone.pretrained is False and stock.model.backbone.checkpoint_path == ""
    assert stock.visualizer.pretrained is True
