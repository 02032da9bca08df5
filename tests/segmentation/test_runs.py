"""FixNorm and WS segmenters on real streets: the real Runner, `tools/train.py`, `tools/fold.py`."""

import copy
import re

import mmcv
import pytest
import torch
from helpers.small_folders import config_of
from helpers.small_segmenters import CLASSES, KINDS, config
from helpers.tool import call
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmseg import apis
from torch import nn

from normfix_mm import FixNormConv2d
from normfix_mm.datasets.seg_folder import SegFolder
from normfix_mm.engine.hooks.invariance_check import check_scale_invariance
from normfix_mm.optim.weights import norm_fix_weights
from normfix_mm.segmentation import DilatedResNetV1c, OCHead

pytestmark = pytest.mark.slow

FIXNORM = [name for name in KINDS if "fixnorm" in name]


@pytest.fixture(scope="module")
def trained(real_data, tmp_path_factory):
    """Folder of configs and of work dirs of the same names, after three iterations each."""
    folder = tmp_path_factory.mktemp("segmenters")
    for name in KINDS:
        config(name, real_data, folder / name).dump(folder / f"{name}.py")
        call("train.py", folder / f"{name}.py")
    return folder


def built(cfg: Config) -> nn.Module:
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(copy.deepcopy(cfg.model))


def joint_norm(model: nn.Module) -> float:
    return torch.cat([i.param.detach().double().flatten() for i in norm_fix_weights(model)]).norm()


@pytest.mark.parametrize("name", FIXNORM)
def test_training_holds_the_joint_norm_and_bounds_the_classifier(name, trained):
    saved = torch.load(trained / name / "iter_3.pth", weights_only=False)
    model = built(Config.fromfile(trained / f"{name}.py"))
    fresh = copy.deepcopy(model.state_dict())
    model.load_state_dict(saved["state_dict"], strict=True)
    log = next((trained / name).glob("*/*.log")).read_text()
    norms = set(re.findall(r" joint_norm: ([\d.]+)", log))
    assert norms == {f"{joint_norm(model):.4f}"}
    names = [info.name for info in norm_fix_weights(model)]
    assert f"NormFixHook: all {len(names)} weights are scale-invariant." in log
    form = "- " if name.startswith("psp") else "WN"
    assert re.search(rf"norm fixing +conv +{form} .*backbone.stem.0.weight … ", log)
    convs = {n for n, p in model.named_parameters() if p.dim() == 4}
    assert set(names) == convs
    for weight in names:  # all have moved
        assert not torch.equal(fresh[weight], saved["state_dict"][weight])
    heads = [n for n, m in model.named_modules() if isinstance(m, FixNormConv2d)]
    assert heads == [f"{part}_head.conv_seg" for part in ("decode", "auxiliary")][: len(heads)]
    for head in heads:
        assert f"gain/{head}: " in log and f"cap/{head}: " in log
    layer = model.decode_head.conv_seg
    assert layer.g > layer.cap == pytest.approx(0.02 * len(CLASSES) ** 0.5)
    torch.testing.assert_close(layer.normalized_weight().norm(), torch.tensor(layer.cap))


def test_ws_and_eps_shift_reach_the_backbone_alone(trained):
    log = next((trained / "fcn-ws").glob("*/*.log")).read_text()
    assert re.search(r"ε-shift +conv  WS +\d+ .*backbone.stem.0.weight … backbone.layer4", log)
    assert re.search(r"mIoU: [\d.]+", log)


@pytest.mark.parametrize("name", KINDS)
def test_what_fold_writes_is_stock_and_segments_the_same(name, trained, real_data, capsys):
    out = trained / f"{name}-folded"
    call("fold.py", trained / f"{name}.py", trained / name / "iter_3.pth", out)
    assert "segmentation: logits differ" in capsys.readouterr().out
    text = re.sub(r'""".*?"""', "", (out / f"{name}.py").read_text())
    assert not any(word in text for word in ("normfix_mm", "Weighted", "ClassIoU", "min_kept"))
    stock = apis.init_model(f"{out / name}.py", f"{out / name}.pth", device="cpu")
    ours = apis.init_model(f"{trained / name}.py", str(trained / name / "iter_3.pth"), device="cpu")
    kinds = {type(m).__module__.partition(".")[0] for m in stock.modules()}
    assert "normfix_mm" not in kinds
    assert type(stock.backbone).__name__ == "ResNetV1c"
    assert type(stock.backbone).__module__ == "mmseg.models.backbones.resnet"
    assert type(stock.decode_head).__module__.startswith("mmseg.models.decode_heads.")
    assert not any(key.endswith(".g") for key in stock.state_dict())
    image = mmcv.imread(max((real_data / "camvid/images/val").iterdir()))
    found, expected = (apis.inference_model(m, image).seg_logits.data for m in (stock, ours))
    assert expected.shape == (len(CLASSES), 360, 480) and expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_a_folded_ocnet_has_plain_layers_and_names_the_module_it_needs(real_data, tmp_path, capsys):
    cfg = Config.fromfile(config_of("ocnet_r18-d8", "fixnorm"))
    SegFolder(real_data / "camvid").use(cfg, CLASSES)
    model = built(cfg)
    model.init_weights()
    with torch.no_grad():
        model.decode_head.context.context.W.g.fill_(0.5)  # at 0 the context would not be compared
        model.decode_head.conv_seg.g.fill_(9.0)  # above its cap
    cfg.dump(tmp_path / "ocnet.py")
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / "ocnet.pth")
    call("fold.py", tmp_path / "ocnet.py", tmp_path / "ocnet.pth", tmp_path / "folded")
    assert "needs, where it runs: normfix_mm.segmentation" in capsys.readouterr().out
    stock = apis.init_model(
        *(f"{tmp_path}/folded/ocnet{end}" for end in (".py", ".pth")), device="cpu"
    )
    assert stock.cfg.custom_imports.imports == ["normfix_mm.segmentation"]
    assert {type(m) for m in stock.modules() if hasattr(m, "weight") and m.weight.dim() == 4} == {
        nn.Conv2d
    }
    assert type(stock.decode_head) is OCHead and type(stock.backbone) is DilatedResNetV1c
    image = mmcv.imread(max((real_data / "camvid/images/val").iterdir()))
    ours = apis.init_model(f"{tmp_path}/ocnet.py", f"{tmp_path}/ocnet.pth", device="cpu")
    found, expected = (apis.inference_model(m, image).seg_logits.data for m in (stock, ours))
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_the_invariance_check_is_not_confused_by_the_accuracy(real_data, tmp_path):
    """It stands among a segmenter's losses; at ties, rounding moves it more than a weight may."""
    cfg = config("psp-fixnorm", real_data, tmp_path)
    torch.manual_seed(2)
    model = built(cfg)
    model.init_weights()
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build(copy.deepcopy(cfg.train_dataloader.dataset))
    batch = pseudo_collate([dataset[0], dataset[1]])
    for layer in model.backbone.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(0.1)
    names = [info.name for info in norm_fix_weights(model)]
    assert check_scale_invariance(model, batch, names) == {}
    # One that is not scale-invariant is still named.
    model.decode_head.conv_seg = nn.Conv2d(8, len(CLASSES), 1)
    wrong = check_scale_invariance(model, batch, names, only_warn=True)
    assert set(wrong) == {"decode_head.conv_seg.weight"}


@pytest.mark.parametrize("seed", [0, 5, 6])
def test_a_norm_over_two_values_is_a_norm(seed, real_data, tmp_path):
    """PSP's pool to one pixel, two images: what slope there is comes from BN's eps."""
    cfg = config("psp-fixnorm", real_data, tmp_path)
    cfg.model.decode_head.pool_scales = (1, 2, 3, 6)
    torch.manual_seed(seed)
    model = built(cfg)
    model.init_weights()
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build(copy.deepcopy(cfg.train_dataloader.dataset))
    batch = pseudo_collate([dataset[0], dataset[1]])
    names = [info.name for info in norm_fix_weights(model)]
    assert "decode_head.psp_modules.0.1.conv.weight" in names
    assert check_scale_invariance(model, batch, names) == {}
