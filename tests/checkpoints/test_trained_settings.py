"""What a config has otherwise than the one that a checkpoint was trained with."""

import pytest
from mmengine.config import Config

import normfix_mm.detection  # noqa: F401
from normfix_mm.checkpoints.stored_config import settings_of
from normfix_mm.checkpoints.trained_settings import other_settings, other_weights
from normfix_mm.models.build import build_model

SMALL = dict(depth=18, base_channels=8, stem_channels=8)
HEAD = dict(type="FixNormRPNHead", in_channels=8, feat_channels=8)


def backbone(**options):
    return Config(dict(model=dict(type="NormalizedResNet", **SMALL, **options)))


def head(**options):
    return Config(dict(model=dict(HEAD, **options)))


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (head(alpha=2.0), head(alpha=0.5), ["rpn_cls.alpha is 0.5 and was 2.0"]),
        (head(alpha=2.0), head(), ["rpn_cls.alpha is 1.0 and was 2.0"]),
        (head(), head(alpha=1.0, gain_start="cap"), []),
        (
            backbone(normalize=dict(form="WS", eps=0.01, layers="^conv1$")),
            backbone(normalize=dict(form="WS", layers="^conv1$")),
            ["conv1.eps is 1e-05 and was 0.01"],
        ),
        (backbone(), backbone(normalize=dict(form="WN", gain=True)), []),
    ],
)
def test_options_that_change_what_is_folded(then, now, said):
    """The defaults of either side count as what they are."""
    assert other_weights(dict(cfg=then.pretty_text), now, build_model(now)) == (said, [])


def test_a_stored_model_that_cannot_be_built_is_compared_by_its_text():
    then, now = head(alpha=2.0, own=dict(type="Mine")), head()
    ours, others = other_weights(dict(cfg=then.pretty_text), now, build_model(now))
    assert (ours, others) == (["'model.alpha'"], [])
    same = head(alpha=1.0, own=dict(type="Mine"))
    assert other_weights(dict(cfg=same.pretty_text), now, build_model(now)) == ([], [])


PIXELS = dict(mean=[123.0], std=[58.0], bgr_to_rgb=True)


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (PIXELS, PIXELS | dict(mean=[0.0]), ["mean.0"]),
        (PIXELS, dict(mean=(123.0,), std=(58.0,), bgr_to_rgb=True), []),
        (PIXELS, dict(mean=[123.0], std=[58.0]), ["bgr_to_rgb"]),
        (PIXELS, PIXELS | dict(rgb_to_bgr=False, pad_size_divisor=32), []),
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["within the model", "beside it"])
def test_how_pictures_are_normalized(then, now, said, apart):
    def whole(pixels):
        model = dict(type="RetinaNet")
        if apart:
            return Config(dict(model=model, data_preprocessor=pixels))
        return Config(dict(model=dict(model, data_preprocessor=pixels)))

    found = other_settings(dict(cfg=whole(then).pretty_text), whole(now))
    assert found == [f"model.data_preprocessor.{name}" for name in said]


def test_of_what_builds_layers_the_options_count():
    then = backbone(norm_cfg=dict(type="SyncBN", requires_grad=True, eps=1e-3))
    now = backbone(norm_cfg=dict(type="BN", requires_grad=False, eps=1e-5), conv_cfg=None)
    assert other_settings(dict(cfg=then.pretty_text), now) == ["model.norm_cfg.eps"]
    without = backbone(conv_cfg=dict(type="WSConv2d"), norm_cfg=None)
    assert other_settings(dict(cfg=without.pretty_text), now) == []


@pytest.mark.parametrize("text", ["inf", "float('inf')"])
def test_infinity_in_a_stored_config_is_read(text):
    assert settings_of(f"model = dict(a=[-{text}, {text}])", ("model",)) == {
        "model": dict(a=[-float("inf"), float("inf")])
    }
