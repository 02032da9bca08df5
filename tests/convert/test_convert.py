"""Whole conversions with real models: every weight arrives, the function survives or is refused."""

import contextlib
import copy
import warnings

import mmcv
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from normfix_mm import fold, normalize_layers
from normfix_mm.checkpoints import files
from normfix_mm.checkpoints.forms import check_forms, checkpoint_forms
from normfix_mm.convert.convert import as_part, convert
from normfix_mm.convert.target import deviations
from normfix_mm.detection import NormalizedResNet
from normfix_mm.errors import BadInput
from normfix_mm.models.build import build_model

FIXNORM = "configs/retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco.py"
WS, WN, CWN = dict(form="WS"), dict(form="WN", gain=True), dict(form="CWN")


@pytest.fixture(scope="module")
def image(real_data):
    """A real photograph as a detector sees it, shape (1, 3, 192, 256)."""
    file = min((real_data / "bccd/images/val").glob("*.jpg"))
    pixels = torch.from_numpy(mmcv.imresize(mmcv.imread(file, channel_order="rgb"), (256, 192)))
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    return ((pixels - mean) / std).permute(2, 0, 1)[None]


def lively(net, image):
    """Kaiming weights, no zero residuals, and the running statistics that `image` gives."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    for module in net.modules():
        module.training = True
    with torch.no_grad():
        net(image)
    for module in net.modules():
        module.training = False
    return net


@pytest.fixture(scope="module")
def resnet50(image, tmp_path_factory):
    """A file as torchvision's."""
    state = lively(ResNet(50), image).state_dict()
    state |= {"fc.weight": torch.randn(10, 2048), "fc.bias": torch.zeros(10)}
    file = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(state, file)
    return file


@pytest.fixture(scope="module")
def small(image):
    """State dict of a small plain ResNet-18."""
    return lively(ResNet(18, **SMALL), image).state_dict()


SMALL = dict(base_channels=8, stem_channels=8)


def target(normalize=None, depth=18):
    if normalize is None:
        return ResNet(depth, **SMALL)
    return NormalizedResNet(depth, **SMALL, normalize=normalize)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ResNet, NormalizedResNet])
def test_init_cfg_takes_the_output(resnet50, tmp_path, kind):
    state, meta = files.read(resnet50)
    result = convert(state, meta, file_name=str(resnet50))
    counts = result.report.counts()
    assert (counts["taken"], counts["renamed"], counts["left"]) == (318, 0, 2)
    files.write(tmp_path / "out.pth", result.state, result.meta)
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "out.pth"))
    net = kind(50, init_cfg=init_cfg)
    net.init_weights()
    found, source = net.state_dict(), torch.load(resnet50)
    gains = {name for name in found if name.endswith(".g")}
    assert len(gains) == (53 if kind is NormalizedResNet else 0)
    assert found.keys() - gains == source.keys() - {"fc.weight", "fc.bias"}
    for name in found.keys() - gains:
        assert torch.equal(found[name], source[name]), name
    for name in gains:
        norm = found[f"{name[:-1]}weight"].flatten(1).norm(dim=1)
        torch.testing.assert_close(found[name], norm, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_a_plain_detector_becomes_fixnorm_with_the_same_logits(image):
    """RetinaNet R-50, all of it: WN backbone and neck, FixNorm head."""
    cfg = Config.fromfile(FIXNORM)
    stock_cfg = Config.fromfile(f"{mmdet_configs()}/retinanet/retinanet_r50_fpn_1x_coco.py")
    with DefaultScope.overwrite_default_scope("mmdet"):
        stock = MODELS.build(stock_cfg.model)
    for part in (stock.neck, stock.bbox_head):
        part.init_weights()
    lively(stock.backbone, image)
    ours = build_model(cfg)
    result = convert(stock.state_dict(), {}, target=ours, form="plain")
    counts = result.report.counts()
    # A gain for each of 53 + 8 + 8 + 2 convolutions, and nothing else, is not in the file.
    assert counts == dict(
        {"taken": len(stock.state_dict()), "renamed": 0, "left": 0, "shape mismatch": 0}, missing=71
    )
    ours.load_state_dict(result.state, strict=False)
    with torch.no_grad():
        expected = stock.eval()(image, mode="tensor")
        found = ours.eval()(image, mode="tensor")
    for a, b in zip(expected, found, strict=True):
        for level, other in zip(a, b, strict=True):
            assert level.std() > 1e-3
            rounding = 1e-5 * max(1.0, float(level.abs().max()))
            torch.testing.assert_close(other, level, rtol=0, atol=rounding)


def mmdet_configs():
    from pathlib import Path

    import mmdet

    return Path(mmdet.__file__).parent / ".mim/configs"


def test_a_cap_that_bites_is_named(small):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
            self.cls = nn.Conv2d(2, 4, 1)

    source = Head()
    nn.init.constant_(source.cls.weight, 2.0)  # norm 5.66
    for alpha, bites in ((1.0, True), (3.0, False)):
        net = normalize_layers(Head(), dict(form="FixNorm", layers="cls", alpha=alpha))
        notes = convert(source.state_dict(), {}, target=net, form="plain").report.notes
        told = [note for note in notes if "the cap of cls" in note]
        assert len(told) == bites
        assert all("cls, 2, is below the norm of its weight, 5.657" in note for note in told)


@pytest.mark.parametrize(
    ("declared", "want", "options", "remedy"),
    [
        ("plain", WS, {}, "--absorb-into-bn"),
        ("plain", CWN, {}, "same form"),
        ("WS", None, {}, "--fold"),
        ("WS", WN, {}, "--fold"),
        ("WS", CWN, {}, "same form"),
        ("WN", None, {}, "--fold"),
        ("WS", WS, dict(fold=True), "--absorb-into-bn"),
        ("plain", None, {}, None),
        ("plain", WN, {}, None),
        ("WS", WS, {}, None),
        ("WS", None, dict(fold=True), None),
        ("WS", WN, dict(fold=True), None),
        ("CWN", WN, dict(fold=True), None),
        ("plain", WS, dict(absorb=True), None),
        ("plain", WS, dict(allow_mismatch=True), None),
        ("WS", None, dict(allow_mismatch=True), None),
    ],
)
def test_what_is_refused(small, declared, want, options, remedy):
    def run():
        return convert(small, {}, target=target(want), form=declared, **options)

    if remedy:
        with pytest.raises(BadInput, match=r"20 of 20, first 'conv1.weight'") as caught:
            run()
        assert remedy in str(caught.value)
    else:
        run()


def test_a_gain_in_the_file_outdoes_the_declaration(small):
    net = normalize_layers(ResNet(18, **SMALL), WN)
    net.load_state_dict(small, strict=False)
    with pytest.raises(BadInput, match="holds with gain weights where the model has plain ones"):
        convert(net.state_dict(), {}, target=target(), form="plain")


def test_an_undeclared_form(small):
    """Told from the statistics; without statistics a WS target needs to be told."""
    assert convert(small, {}, target=target()).report.form.startswith("plain, from the weights")
    fresh = ResNet(18, **SMALL).state_dict()
    result = convert(fresh, {}, target=target(WN))
    assert result.report.form.startswith("unknown") and result.meta["normfix_form"] == {}
    with pytest.raises(BadInput, match="trained as WS.*--form WS or --form plain"):
        convert(fresh, {}, target=target(WS))
    named = convert(fresh, {}, file_name="dir/ws_resnet18.pth.tar", target=target(WS))
    assert named.report.form == "WS, from the file's name (ws_…)"
    doubtful = convert(small, {}, file_name="ws_resnet18.pth.tar", target=target(WS))
    assert "WARNING: they look plain" in doubtful.report.form
    shuffled = {
        n: v[torch.randperm(len(v))] if n.endswith("running_mean") else v for n, v in small.items()
    }
    with pytest.raises(BadInput, match="holds normalized weights.*declare the form with --form"):
        convert(shuffled, {}, target=target())


@pytest.mark.parametrize("rule", [WS, WN, CWN, dict(form="WN", gain=False)], ids=str)
def test_folded_weights_are_the_same_function(small, image, rule):
    net = normalize_layers(ResNet(18, **SMALL), rule)
    net.load_state_dict(small, strict=False)
    for module in net.modules():
        if getattr(module, "g", None) is not None:
            module.g.data *= 1.7
    declared = None if rule == WN else rule["form"]  # gains are seen among the keys
    result = convert(net.state_dict(), {}, target=target(), form=declared, fold=True)
    assert result.report.counts()["missing"] == 0
    plain = target()
    plain.load_state_dict(result.state, strict=True)
    assert set(result.meta["normfix_form"].values()) == {"plain"}
    with torch.no_grad():
        for a, b in zip(net.eval() or net(image), plain.eval() or plain(image), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)
    for name, weight in fold(net).state_dict().items():
        torch.testing.assert_close(result.state[name], weight)


def test_folding_an_unknown_form_is_refused():
    with pytest.raises(BadInput, match="--fold needs to know the form"):
        convert(ResNet(18, **SMALL).state_dict(), {}, fold=True)


def test_a_layer_s_gain_is_not_folded_without_its_cap():
    net = normalize_layers(nn.Sequential(nn.Conv2d(3, 4, 1)), dict(form="FixNorm", alpha=0.1))
    state = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    with pytest.raises(BadInput, match="may be capped.*tools/fold.py"):
        convert(state, {}, fold=True)


def test_what_is_written_speaks_to_the_preflight(small, tmp_path):
    """`init_cfg` and `load_from` with the output: refused, or taken without a warning."""
    file = tmp_path / "out.pth"
    for declared, prefix in (("WS", ""), ("plain", ""), ("WS", "backbone.")):
        result = convert(small, {}, form=declared)
        if prefix:
            as_part(result, "backbone")
        files.write(file, result.state, result.meta)
        content = torch.load(file)
        assert set(checkpoint_forms(content).values()) == {declared}
        assert len(checkpoint_forms(content)) == 20
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            same = WS if declared == "WS" else None
            check_forms(target(same), content, str(file), prefix)
            with pytest.raises(BadInput, match=f"holds {declared} weights"):
                check_forms(target(None if same else WS), content, str(file), prefix)


@pytest.mark.parametrize(
    "text",
    [
        "x = __import__('pathlib').Path({mark!r}).touch()\nmodel = {model}",
        "model = dict(type='os.system', command='touch {mark}')",
        "model = dict(type='ResNet', depth=18, base_channels=8, x=str(open({mark!r}, 'w')))",
    ],
)
def test_a_stored_config_is_read_not_run(small, tmp_path, text):
    mark = tmp_path / "mark"
    model = "dict(type='NormalizedResNet', depth=18, base_channels=8, normalize=dict(form='WS'))"
    text = text.format(mark=str(mark), model=model)
    forms = checkpoint_forms(dict(state_dict=small, meta=dict(cfg=text)))
    assert not mark.exists()
    assert set(forms.values()) == ({"WS"} if "Normalized" in text else set())
    # The payload is a real one: mmengine, which runs configs, creates the file.
    cfg = Config.fromstring(text, ".py")
    if not mark.exists():
        with contextlib.suppress(Exception):
            MODELS.build(cfg.model)
    assert mark.exists()


def test_metadata_goes_with_the_names(small):
    """Forms that an earlier conversion noted follow a second renaming; a stored config does not."""
    first = convert(small, {}, form="WS")
    as_part(first, "backbone")
    meta = first.meta | dict(cfg="model = dict()", dataset_meta=dict(classes=("a",)))
    whole = convert(first.state, meta)
    assert whole.meta["cfg"] == "model = dict()" and whole.meta["dataset_meta"]
    assert whole.report.form == "WS (20), from the metadata"
    part = convert(first.state, meta, part="backbone")
    assert "cfg" not in part.meta and "dataset_meta" not in part.meta
    assert part.meta["normfix_form"] == dict.fromkeys(part.meta["normfix_form"], "WS")
    assert "conv1.weight" in part.meta["normfix_form"]
    assert {row.old for row in part.report.rows} == first.state.keys()


def test_every_key_is_in_the_report(small):
    state = copy.deepcopy(small)
    state["layer1.0.se.fc.weight"] = torch.ones(3)
    state["fc.weight"] = torch.ones(2, 64)
    state["conv1.weight"] = torch.ones(8, 4, 7, 7)
    del state["layer2.0.bn1.bias"], state["layer2.0.bn1.num_batches_tracked"]
    result = convert(state, {}, target=target(WN), form="plain")
    rows = {row.old or row.new: row for row in result.report.rows}
    assert state.keys() <= rows.keys()
    assert [rows[k].status for k in ("layer1.0.se.fc.weight", "fc.weight")] == ["left", "left"]
    assert rows["conv1.weight"].status == "shape mismatch"
    assert rows["conv1.weight"].why == "the model's, 8×3×7×7, keeps its initialization"
    assert "conv1.weight" not in result.state
    assert rows["layer2.0.bn1.bias"].why == "keeps its initialization"
    assert rows["layer2.0.conv1.g"].why.startswith("becomes ‖W‖")
    assert rows["conv1.g"].why == "keeps its initialization"  # as its weight does
    assert [row.status for row in result.report.rows].count("missing") == 2 + 20
    text = str(result.report)
    for row in result.report.rows:
        assert (row.old or row.new).rpartition(".")[2] in text
    assert "| left | fc.weight |  | 2×64 | the source's classifier |" in text
    assert "WARNING: 1 keys of the source have no place in the model" in text
    assert "WARNING: 1 keys have another shape in the model" in text
    counts = result.report.counts()
    assert counts["taken"] == len(result.state) == len(state) - 3
    assert f"taken: {counts['taken']}, renamed: 0, left: 2, shape mismatch: 1" in text
    with pytest.raises(BadInput, match="No weight of the checkpoint fits"):
        convert(
            {"conv1.weight": torch.ones(1), "layer1.0.conv1.weight": torch.ones(1)},
            {},
            target=target(),
            form="plain",
        )


def test_absorbed_and_measured(small, image):
    """Centered filters: the WS network is the plain one. Others: the report says it is not."""
    for centered in (True, False):
        state = {
            n: v - v.mean((1, 2, 3), keepdim=True) if centered and v.dim() == 4 else v
            for n, v in small.items()
        }
        ws = target(WS)
        result = convert(state, {}, target=ws, form="plain", absorb=True)
        evaluation, training = deviations(ws, result.plain, result.state, image)
        assert len(evaluation) == len(training) == 4
        table = [note for note in result.report.notes if note.startswith("| conv1 |")]
        assert len(table) == 1
        if centered:
            assert max(evaluation) < 1e-4 and max(training) < 1e-3
            assert table == ["| conv1 | 0.00% |"]
        else:
            assert min(evaluation) > 0.1 and min(training) > 0.1
        assert set(result.meta["normfix_form"].values()) == {"WS"}
    with pytest.raises(BadInput, match="needs --config"):
        convert(small, {}, form="plain", absorb=True)
    with pytest.raises(BadInput, match="found no weight that is known to be plain"):
        convert(small, {}, target=target(WN), form="plain", absorb=True)
