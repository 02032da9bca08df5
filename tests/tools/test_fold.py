"""tools/fold.py: what comes out is stock, works where this package is absent, and is whole."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch
from helpers.small_detectors import BASES, SIZE, config, first_image, save, trained_weights
from helpers.tool import call
from mmcv.cnn import fuse_conv_bn
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from normfix_mm import fold
from normfix_mm.checkpoints.forms import PLAIN, checkpoint_forms
from normfix_mm.export.same_network import difference, load

pytestmark = pytest.mark.slow

# Whatever it imports, this package cannot be among it. Arguments: folder, image, folder, ...
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition('.')[0] == 'normfix_mm':
            raise ImportError('normfix_mm is not installed here')
sys.meta_path.insert(0, Absent())
try:
    import normfix_mm
except ImportError:
    pass
else:
    sys.exit('normfix_mm was imported')
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
for folder, image in zip(sys.argv[1::2], sys.argv[2::2]):
    stem = folder + '/' + folder.rpartition('/')[2]
    model = init_detector(stem + '.py', stem + '.pth', device='cpu')
    found = inference_detector(model, image).pred_instances
    inferencer = DetInferencer(stem + '.py', stem + '.pth', device='cpu', show_progress=False)
    listed = inferencer(image, no_save_vis=True)['predictions'][0]
    torch.save(dict(found.items()) | dict(listed=listed, classes=model.dataset_meta['classes']),
               folder + '.found')
"""


@pytest.fixture(scope="module")
def image(real_data) -> Path:
    return first_image("retinanet-fixnorm", real_data)


@pytest.fixture(scope="module")
def trained(real_data, tmp_path_factory):
    """Config and checkpoint of each kind, as files."""
    folder = tmp_path_factory.mktemp("trained")
    for name in BASES:
        cfg = config(name, real_data)
        save(cfg, trained_weights(cfg), folder / name)
    return folder


@pytest.fixture(scope="module")
def folded(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folded")
    for name in BASES:
        call("fold.py", trained / f"{name}.py", trained / f"{name}.pth", folder / name)
    return folder


@pytest.fixture(scope="module")
def without(folded, real_data, tmp_path_factory):
    """Runs all folded detectors in a process that cannot import this package."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | dict(OMP_NUM_THREADS="1")
    arguments = [str(a) for n in BASES for a in (folded / n, first_image(n, real_data))]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        env=env, text=True, capture_output=True, cwd=tmp_path_factory.mktemp("elsewhere"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folded


def detector(folder: Path, name: str) -> nn.Module:
    return init_detector(f"{folder / name}.py", f"{folder / name}.pth", device="cpu")


@pytest.mark.parametrize("name", BASES)
def test_detects_the_same_where_this_package_cannot_be_imported(name, without, trained, real_data):
    found = torch.load(without / f"{name}.found", weights_only=False)
    original = detector(trained, name)
    image = first_image(name, real_data)
    expected = inference_detector(original, str(image)).pred_instances
    assert len(expected) == 30 and expected.scores.std() > 0.005  # not all alike
    assert found["classes"] == original.dataset_meta["classes"]
    for field in ("bboxes", "scores", "labels"):
        torch.testing.assert_close(found[field], expected[field], rtol=1e-4, atol=1e-4)
    assert ("masks" in expected) == (name == "mask-fixnorm")
    if "masks" in expected:
        assert expected.masks.any() and not expected.masks.all()
        assert torch.equal(found["masks"], expected.masks)
    listed = found["listed"]
    torch.testing.assert_close(torch.tensor(listed["scores"]), expected.scores)
    torch.testing.assert_close(torch.tensor(listed["bboxes"]), expected.bboxes)
    # Gains mattered: had they been dropped, or the caps, another network would have come out.
    for layer in original.modules():
        if hasattr(layer, "cap"):
            assert layer.g > layer.cap
        if getattr(layer, "g", None) is not None and layer.g.numel() > 1:
            assert (layer.g / layer._weight_norm() - 1).abs().max() > 0.1


@pytest.mark.parametrize("name", BASES)
def test_the_folder_holds_a_stock_config_and_weights_alone(name, folded, trained):
    folder = folded / name
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.pth", f"{name}.py"]
    content = torch.load(folder / f"{name}.pth", weights_only=True)
    before = torch.load(trained / f"{name}.pth", weights_only=True)
    assert set(content) == {"meta", "state_dict"}
    gains = {key for key in before["state_dict"] if key.endswith(".g")}
    assert bool(gains) == (name != "retinanet-ws")
    assert content["state_dict"].keys() == before["state_dict"].keys() - gains
    assert content["meta"]["dataset_meta"] == before["meta"]["dataset_meta"]
    assert content["meta"]["cfg"] == (folder / f"{name}.py").read_text()
    forms = checkpoint_forms(content)
    assert len(forms) > 20 and set(forms.values()) == {PLAIN}
    assert (folder.stat().st_mode & 0o777) == (trained.parent.stat().st_mode & 0o777 | 0o755)


FORMATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def outputs(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Pyramid, and what the dense head makes of it."""
    features = model.extract_feat(image)
    head = model.rpn_head if hasattr(model, "rpn_head") else model.bbox_head
    return [*features, *(level for kind in head(features) for level in kind)]


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("name", ["retinanet-ws", "mask-fixnorm"])
def test_fused_and_in_half_precision_it_is_the_same_network(
    name, form, fused, folded, trained, real_data
):
    """As near to float64 as the network that was trained: how near that is, the processor says."""
    model = detector(folded / name, name)
    image = model.data_preprocessor(load(model.cfg, first_image(name, real_data)))["inputs"]
    with torch.no_grad():
        expected = outputs(model.double(), image.double())
        unfolded = outputs(detector(trained, name).to(form), image.to(form))
        other = detector(folded / name, name)
        if fused:
            other = fuse_conv_bn(other.to(torch.promote_types(form, torch.float32)))
            assert not any(isinstance(module, nn.BatchNorm2d) for module in other.modules())
        got = outputs(other.to(form), image.to(form))
    eps = torch.finfo(form).eps
    for a, before, b in zip(got, unfolded, expected, strict=True):
        assert a.dtype == form
        # Folded weights are float32: in float64 the two networks are compared elsewhere.
        rounding = difference(before, b) if form != torch.float64 else 500 * eps
        assert rounding <= 500 * eps
        assert difference(a, b) < 2 * rounding + 4 * eps


def test_fusing_before_folding_is_another_network(folded, trained):
    """Which is why folding comes first."""
    x = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        expected = detector(folded / "retinanet-ws", "retinanet-ws").extract_feat(x)
        wrong = fuse_conv_bn(detector(trained, "retinanet-ws")).extract_feat(x)
    for bad, want in zip(wrong, expected, strict=True):
        assert difference(bad, want) > 0.1


def test_get_flops(folded, capsys):
    """MMDetection's own script; it draws a batch from the validation data of the config."""
    script = Path(mmdet.__file__).parent / ".mim/tools/analysis_tools/get_flops.py"
    config = folded / "mask-fixnorm/mask-fixnorm.py"
    call(script, config, "--num-images", "1")
    assert "Flops: " in capsys.readouterr().out


def test_a_run_that_averaged_its_weights(real_data, tmp_path):
    """A real run with norm fixing and an EMA: the averaged weights are folded, nothing else."""
    cfg = config("retinanet-fixnorm", real_data)
    cfg.merge_from_dict({"model.backbone.init_cfg": None})
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=3)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=3, by_epoch=False)
    cfg.work_dir, cfg.log_level = str(tmp_path / "run"), "ERROR"
    Runner.from_cfg(cfg).train()
    saved = torch.load(tmp_path / "run/iter_3.pth", weights_only=False)
    cfg = config("retinanet-fixnorm", real_data)
    cfg.dump(tmp_path / "c.py")
    call("fold.py", tmp_path / "c.py", tmp_path / "run/iter_3.pth", tmp_path / "out")
    content = torch.load(tmp_path / "out/c.pth", weights_only=True)
    assert set(content) == {"meta", "state_dict"} and content["meta"]["iter"] == 3
    mean, last = saved["state_dict"], saved["ema_state_dict"]
    key = "neck.lateral_convs.0.conv"
    for weights, equal in ((mean, True), ({k[7:]: v for k, v in last.items()}, False)):
        weight, gain = weights[f"{key}.weight"].double(), weights[f"{key}.g"].double()
        by_hand = weight * (gain / weight.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
        got = content["state_dict"][f"{key}.weight"].double()
        assert torch.allclose(by_hand, got, rtol=1e-5, atol=1e-8) is equal


SEGMENTER = """
default_scope = 'mmseg'
custom_imports = dict(imports=['mmseg.models', 'normfix_mm.engine'], allow_failed_imports=False)
norm = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[128] * 3, std=[64] * 3,
                           pad_val=0, seg_pad_val=255),
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=norm,
                  conv_cfg=dict(type='WSConv2d')),
    decode_head=dict(type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1,
                     num_classes=11, norm_cfg=norm, conv_cfg=dict(type='WNConv2d', gain=True)),
    test_cfg=dict(mode='whole'))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 96)),
                 dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_dataloader = dict(dataset=dict(type='BaseSegDataset', data_root='/nowhere',
                                    pipeline=test_pipeline))
"""


def test_a_segmenter_folds_by_the_same_command(real_data, tmp_path, capsys):
    apis = pytest.importorskip("mmseg.apis")
    torch.manual_seed(0)
    (tmp_path / "m.py").write_text(SEGMENTER)
    cfg = Config.fromfile(tmp_path / "m.py")
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(copy.deepcopy(cfg.model))
    for name, parameter in model.named_parameters():
        if name.endswith(".g"):
            parameter.data.mul_(3)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / "m.pth")
    image = min((real_data / "camvid/images/val").iterdir())
    given = tmp_path / "m.py", tmp_path / "m.pth", tmp_path / "out"
    with pytest.warns(UserWarning, match="does not say how it was trained"):
        call("fold.py", *given, "--image", image)
    said = capsys.readouterr().out
    assert "segmentation: logits differ" in said and "where it runs: mmseg.models" in said
    stock = apis.init_model(str(tmp_path / "out/m.py"), str(tmp_path / "out/m.pth"), device="cpu")
    assert stock.cfg.model.backbone.conv_cfg is None and stock.cfg.model.pretrained is None
    assert {type(m) for m in stock.modules() if isinstance(m, nn.Conv2d)} == {nn.Conv2d}
    original = apis.init_model(cfg, str(tmp_path / "m.pth"), device="cpu")
    one, two = (apis.inference_model(m, str(image)) for m in (stock, original))
    torch.testing.assert_close(one.seg_logits.data, two.seg_logits.data, rtol=1e-4, atol=1e-5)


# Refusals: one sentence, and nothing is left behind.


def refusal(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        call("fold.py", *arguments)
    message = str(ended.value)
    assert message.startswith("error: ") and "\n" not in message
    return message


@pytest.fixture
def retina(trained, tmp_path):
    """A folder of one's own with config and checkpoint."""
    for end in ("py", "pth"):
        shutil.copy(trained / f"retinanet-fixnorm.{end}", tmp_path / f"m.{end}")
    return tmp_path


def change(path: Path, edit) -> None:
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["state_dict"].pop("neck.fpn_convs.0.conv.bias"), "lacks 1 .*fpn_convs.0"),
        (lambda c: c["state_dict"].pop("bbox_head.retina_cls.g"), "lacks 1 .*retina_cls.g"),
        (lambda c: c["state_dict"].update(extra=torch.ones(1)), "has besides 1 .*'extra'"),
        (
            lambda c: c["state_dict"].update({"backbone.bn1.bias": torch.ones(3)}),
            "does not fit the config: .*backbone.bn1.bias",
        ),
        (lambda c: c.update(state_dict={}), "holds no weights"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(edit, message, retina, image, capsys):
    change(retina / "m.pth", edit)
    text = refusal(capsys, retina / "m.py", retina / "m.pth", retina / "o", "--image", image)
    assert re.search(message, text), text
    assert sorted(path.name for path in retina.iterdir()) == ["m.pth", "m.py"]


def test_an_image_that_cannot_be_read_is_refused(retina, capsys, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    given = (retina / "m.py", retina / "m.pth", retina / "o", "--image", tmp_path / "a.png")
    assert "a.png' cannot be read" in refusal(capsys, *given)


def test_code_in_a_checkpoint_is_not_run(retina, image, capsys):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(retina / "hacked"),)

    change(retina / "m.pth", lambda c: c.update(extra=1))
    content = torch.load(retina / "m.pth", weights_only=True)
    torch.save(content | dict(extra=Hostile()), retina / "m.pth")
    text = refusal(capsys, retina / "m.py", retina / "m.pth", retina / "out", "--image", image)
    assert "mkdir" in text and not (retina / "hacked").exists()


def test_weights_of_another_form_are_refused(retina, trained, image, capsys):
    """Every key of a WS checkpoint matches a plain model."""
    config = Config.fromfile(trained / "retinanet-ws.py")
    config.model.backbone.pop("normalize")
    config.model.backbone.type = "ResNet"
    config.dump(retina / "m.py")
    text = refusal(
        capsys, retina / "m.py", trained / "retinanet-ws.pth", retina / "out", "--image", image
    )
    assert "holds WS weights where the model has plain ones" in text


def test_an_existing_folder_and_a_missing_image_are_refused(retina, image, capsys):
    given = retina / "m.py", retina / "m.pth"
    assert "exists already" in refusal(capsys, *given, retina, "--image", image)
    out = retina / "out"
    assert "'absent.png' does not exist" in refusal(capsys, *given, out, "--image", "absent.png")
    away = ["test_dataloader", "val_dataloader"]
    away = [f"{loader}.dataset.data_root=/nowhere/" for loader in away]
    text = refusal(capsys, *given, out, "--cfg-options", *away)
    assert "give one with --image PATH" in text and not out.exists()


def test_another_network_is_an_error_and_nothing_is_written(retina, image, capsys, monkeypatch):
    """As if folding left a gain out, by one part in a thousand."""

    def wrong(model):
        plain = fold(model)
        plain.neck.fpn_convs[0].conv.weight.data *= 1.001
        return plain

    monkeypatch.setattr("normfix_mm.export.fold_out.fold", wrong)
    text = refusal(capsys, retina / "m.py", retina / "m.pth", retina / "out", "--image", image)
    assert "does not compute what the trained one does" in text and "neck differs most" in text
    assert f"; on {image}: " in text and ":;" not in text
    assert sorted(path.name for path in retina.iterdir()) == ["m.pth", "m.py"]
