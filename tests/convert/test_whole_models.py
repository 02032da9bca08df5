"""What a declaration may say about a whole model, and what makes a target another network."""

import pytest
import torch
from mmdet.models.backbones import MobileNetV2, ResNet
from PIL import Image
from torch import nn

from normfix_mm import fold, normalize_layers
from normfix_mm.convert.convert import as_part, convert
from normfix_mm.convert.target import compare
from normfix_mm.detection import NormalizedMobileNetV2, NormalizedResNet
from normfix_mm.errors import BadInput

SMALL = dict(depth=18, base_channels=8, stem_channels=8)
WS = dict(form="WS")


class Detector(nn.Module):
    """A backbone with a neck, and what an image goes through before them."""

    def __init__(self, backbone, neck=None):
        super().__init__()
        self.backbone, self.neck = backbone, neck or nn.Conv2d(64, 8, 1)

    def data_preprocessor(self, data):
        return dict(inputs=torch.stack(data["inputs"]).float() / 128 - 1)


def standardized(neck=None):
    torch.manual_seed(0)
    net = normalize_layers(Detector(ResNet(**SMALL), neck), WS)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.1, 0.5)
    return net


def metadata(net):
    """As an earlier conversion notes it."""
    forms = [n for n, m in net.named_modules() if hasattr(m, "normalized_weight")]
    return dict(normfix_form={f"{name}.weight": "WS" for name in forms})


def assert_folded(net, state):
    expected = fold(net).state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, msg=name)


@pytest.mark.parametrize("declared", [None, "WS"])
def test_what_the_file_says_of_the_neck_stands(declared):
    net = standardized()
    made = convert(net.state_dict(), metadata(net), form=declared, fold=True)
    assert_folded(net, made.state)
    assert made.report.form == "WS (21), from the metadata"


def test_a_declaration_fills_the_gaps():
    net = standardized()
    noted = metadata(net)
    del noted["normfix_form"]["backbone.layer1.0.conv1.weight"]
    made = convert(net.state_dict(), noted, form="WS")
    assert made.report.form.startswith("WS (20), from the metadata; the others WS, as declared")
    assert set(made.meta["normfix_form"].values()) == {"WS"}
    assert len(made.meta["normfix_form"]) == 21


@pytest.mark.parametrize("declared", ["plain", "CWN", "WN"])
def test_a_declaration_that_contradicts_the_file_is_refused(declared):
    net = standardized()
    with pytest.raises(
        BadInput,
        match=rf"--form {declared} contradicts the metadata: 'backbone.conv1.weight' is WS there "
        rf"\(20 of 20 are not {declared}\)",
    ):
        convert(net.state_dict(), metadata(net), form=declared)


def test_a_layer_that_the_file_calls_plain_is_left_so():
    net = standardized()
    noted = metadata(net)
    noted["normfix_form"]["backbone.conv1.weight"] = "plain"
    state = net.state_dict()
    made = convert(state, noted, form="WS", fold=True)
    assert torch.equal(made.state["backbone.conv1.weight"], state["backbone.conv1.weight"])


def test_a_whole_model_is_not_folded_in_part():
    net = standardized()
    with pytest.raises(
        BadInput,
        match=r"Nothing tells the form of 1 convolutions \(first 'neck.weight'\) while WS is known "
        r"of others: .*--part backbone, or fold with the model's config, by `.*fold",
    ):
        convert(net.state_dict(), {}, form="WS", fold=True)
    made = convert(net.state_dict(), {}, form="WS", fold=True, part="backbone")
    assert_folded(net.backbone, made.state)


def test_of_a_backbone_converted_before_the_same_is_known():
    first = convert(standardized().backbone.state_dict(), {}, form="WS")
    as_part(first, "backbone")
    with pytest.raises(BadInput, match="Nothing tells the form of 1 convolutions"):
        whole = first.state | {"neck.weight": torch.ones(8, 64, 1, 1)}
        convert(whole, first.meta, fold=True)


def test_what_has_a_gain_shows_that_the_rest_has_none():
    net = Detector(normalize_layers(ResNet(**SMALL), dict(form="WN", gain=True)))
    made = convert(net.state_dict(), {}, fold=True)
    assert_folded(net, made.state)
    assert (
        "NOTE: 1 convolutions of which nothing is known stay as they are: 'neck.weight'"
        in made.report.notes
    )


@pytest.mark.parametrize("with_target", [False, True])
def test_the_stem_for_grey_images_is_an_ordinary_convolution(with_target):
    net = normalize_layers(ResNet(in_channels=1, **SMALL), WS)
    target = ResNet(in_channels=1, **SMALL) if with_target else None
    made = convert(net.state_dict(), {}, form="WS", fold=True, target=target)
    assert_folded(net, made.state)


@pytest.mark.parametrize("with_target", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_depthwise_convolutions_stay_and_are_named(with_target, channels):
    def net(kind, **options):
        made = kind(widen_factor=0.25, **options)
        if channels == 1:
            made.conv1.conv = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
        return made

    trained = normalize_layers(net(MobileNetV2), WS)
    target = net(MobileNetV2) if with_target else None
    # As a file whose keys are sorted has them.
    state = dict(sorted(trained.state_dict().items(), reverse=True))
    made = convert(state, {}, form="WS", fold=True, target=target)
    assert set(made.state) == set(fold(trained).state_dict())
    for name, value in fold(trained).state_dict().items():
        torch.testing.assert_close(made.state[name], value, msg=name)
    notes = [note for note in made.report.notes if "17 depthwise convolutions stay" in note]
    assert len(notes) == 1


@pytest.mark.parametrize("kind", ["ResNetV1d", "MobileNetV2"])
@pytest.mark.parametrize("whole", [False, True])
def test_mmpretrain_s_names_stay_where_the_model_has_them(kind, whole):
    backbones = pytest.importorskip("mmpretrain.models.backbones")
    options = SMALL if kind == "ResNetV1d" else dict(widen_factor=0.25)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = getattr(backbones, kind)(**options)
            self.head = nn.Linear(64, 5)

    source = Classifier()
    target = Classifier()
    made = convert(
        source.state_dict(), {}, form="plain", target=target if whole else target.backbone,
        source="openmmlab" if whole else None,
    )  # fmt: skip
    counts = made.report.counts()
    assert counts["missing"] == counts["shape mismatch"] == 0
    (target if whole else target.backbone).load_state_dict(made.state, strict=True)
    # MMDetection's network of the kind gets its own names as before.
    if kind == "MobileNetV2" and not whole:
        target = NormalizedMobileNetV2(widen_factor=0.25, normalize=dict(form="WN", gain=True))
        counts = convert(source.state_dict(), {}, form="plain", target=target).report.counts()
        assert counts["shape mismatch"] == 0 and counts["renamed"] > 100


@pytest.mark.parametrize("whole", [False, True])
def test_a_backbone_of_which_most_stays_initialized_is_refused(whole):
    source, target = Detector(ResNet(**SMALL)), Detector(ResNet(**SMALL | dict(depth=50)))
    part = None if whole else "backbone"
    with pytest.raises(BadInput, match=r"\d+ of 265 keys of the model's backbone would keep"):
        convert(
            source.state_dict(), {}, form="plain", part=part,
            target=target if whole else target.backbone,
        )  # fmt: skip


CAFFE = dict(depth=50, base_channels=8, stem_channels=8, style="caffe")


@pytest.mark.parametrize("kind", [ResNet, NormalizedResNet])
def test_torchvision_s_weights_do_not_fit_caffe_s_strides(kind):
    state = ResNet(50, base_channels=8, stem_channels=8).state_dict()
    net = kind(**CAFFE)
    with_classifier = state | {"fc.weight": torch.ones(2, 256)}
    with pytest.raises(BadInput, match="style='caffe', first 'layer2.0'.*set style='pytorch'"):
        convert(with_classifier, {}, form="plain", target=net)

    def notes(state, **options):
        made = convert(state, {}, form="plain", target=net, **options)
        return [note for note in made.report.notes if "style='caffe'" in note]

    assert notes(with_classifier, allow_mismatch=True)[0].startswith("WARNING: allowed nevert")
    assert notes(state)[0].startswith("WARNING: unless these weights are Caffe's, the bottlenecks")
    assert not notes(state, source="openmmlab-backbone")
    net = kind(**CAFFE | dict(style="pytorch"))
    assert not notes(with_classifier)


@pytest.mark.parametrize("whole", [False, True])
def test_a_weight_of_another_shape_is_left_out_of_the_comparison(tmp_path, whole):
    Image.new("RGB", (64, 64), (90, 120, 30)).save(tmp_path / "a.png")
    state = Detector(ResNet(**SMALL)).state_dict()
    state["backbone.conv1.weight"] = torch.ones(8, 4, 7, 7)
    net = Detector(NormalizedResNet(normalize=dict(form="WN", gain=True), **SMALL))
    part = None if whole else "backbone"
    target = net if whole else net.backbone
    made = convert(state, {}, form="plain", target=target, part=part)
    lines = compare(made, net, part, str(tmp_path / "a.png"))
    assert "strides, pooling and preprocessing are the config's in both" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == [
        "relative change of the backbone's outputs on the image, evaluation mode",
        "relative change of the backbone's outputs on the image, BN in training mode",
    ]
