"""Standardization with another eps is another function: it is folded as it is, or refused."""

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import normfix_mm.detection  # noqa: F401
from normfix_mm.checkpoints.forms import check_forms, checkpoint_forms, eps_of
from normfix_mm.convert.convert import convert
from normfix_mm.errors import BadInput
from normfix_mm.preflight.trained_model import warn_of_other_settings

SMALL = dict(depth=18, base_channels=8, stem_channels=8)
RULE = dict(form="WS", eps=0.01)


def model_with(rule, **options):
    model = dict(type="NormalizedResNet", normalize=rule, **SMALL, **options)
    return Config(dict(default_scope="mmdet", model=model))


def built(cfg):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg.model)


@pytest.fixture(scope="module")
def trained():
    """A network whose weights are small beside its eps, and its checkpoint."""
    cfg = model_with(RULE)
    net = built(cfg)
    return net, dict(state_dict=net.state_dict(), meta=dict(cfg=cfg.pretty_text))


def distance(one, other):
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for net in (one, other):
        net.eval()
    with torch.no_grad():
        a, b = (net(image)[-1] for net in (one, other))
    return float((a - b).norm() / a.norm())


@pytest.mark.parametrize("again", [False, True], ids=["from its config", "from our metadata"])
def test_it_is_folded_with_its_own_eps(trained, again):
    net, content = trained
    state, meta = content["state_dict"], content["meta"]
    if again:
        made = convert(state, meta)
        state, meta = made.state, made.meta
    stock = ResNet(**SMALL)
    made = convert(state, meta, fold=True, target=stock)
    stock.load_state_dict(made.state)
    assert distance(net, stock) < 1e-5
    assert "WS(eps=0.01) (20)" in str(made.report)


def test_layers_with_another_eps_do_not_take_it(trained):
    net, content = trained
    usual = built(model_with(dict(form="WS")))
    usual.load_state_dict(net.state_dict())
    assert distance(net, usual) > 0.1
    words = r"holds WS\(eps=0.01\) weights where the model has WS ones"
    with pytest.raises(BadInput, match=words):
        check_forms(usual, content, "a.pth")
    with pytest.raises(BadInput, match=words):
        convert(content["state_dict"], content["meta"], target=usual)
    check_forms(net, content, "a.pth")
    convert(content["state_dict"], content["meta"], target=net)


def test_weights_of_unknown_form_cannot_be_declared_of_it(trained):
    net, _ = trained
    with pytest.raises(BadInput, match=r"trained as WS\(eps=0.01\), .*declare them with --form pl"):
        convert(built(model_with({})).state_dict(), {}, target=net)


def test_absorbing_heeds_it(trained):
    net, _ = trained
    made = convert(built(model_with({})).state_dict(), {}, form="plain", target=net, absorb=True)
    assert (
        checkpoint_forms(dict(state_dict=made.state, meta=made.meta))["conv1.weight"]
        == "WS(eps=0.01)"
    )


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (RULE, dict(form="WS"), "normalize.0.eps"),
        (dict(form="WS"), [RULE], "normalize.0.eps"),
        (dict(form="WS"), dict(form="WS", eps=1e-5, depthwise=False), None),
        (dict(form="WN"), dict(form="WN", gain=False), "normalize.0.gain"),
        (dict(form="WN"), dict(form="WN", gain_start=1.0), None),
        (dict(form="WS"), [dict(form="WS"), dict(form="WN", kind="linear")], "normalize"),
        (RULE, None, "normalize"),
    ],
)
def test_options_that_only_one_side_names_are_compared(capsys, then, now, said):
    content = dict(meta=dict(cfg=model_with(then).pretty_text))
    warn_of_other_settings(content, "a.pth", model_with(now))
    text = capsys.readouterr().err
    assert (
        (f"'model.{said}' of the config are not as 'a.pth' was trained" in text)
        if said
        else (text == "")
    )


def test_a_stock_config_of_folded_weights_is_no_other(capsys):
    content = dict(meta=dict(cfg=model_with(RULE).pretty_text))
    stock = Config(dict(model=dict(type="ResNet", **SMALL)))
    warn_of_other_settings(content, "a.pth", stock)
    assert capsys.readouterr().err == ""


def test_what_stands_for_an_eps():
    names = {"WS": 1e-5, "WS(eps=0.01)": 0.01, "WS(eps=1e-06)": 1e-6, "WS(eps=3)": 3.0}
    assert {name: eps_of(name) for name in names} == names
    assert not any(map(eps_of, ("WN", "AWS", "plain", "WS(eps=)", "WS(eps=1.2.3)", "WS with gain")))
