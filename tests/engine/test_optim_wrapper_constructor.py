"""The optimizer constructor: decay, groups, table, refusals; and the regularizer's real effect."""

import copy
import io

import pytest
import torch
from engine.toy_run import toy_config, train
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from normfix_mm import WNConv2d, WSConv2d
from normfix_mm.errors import BadInput
from normfix_mm.optim.claims import claims


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = WSConv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = WNConv2d(4, 4, 3)
        self.plain = nn.Conv2d(4, 4, 1)
        self.frozen = WNConv2d(4, 4, 1).requires_grad_(False)
        self.head = nn.Linear(4, 2)
        self.again = self.head  # a shared layer


def build(paramwise=None, model=None, decay=1e-4, optimizer="SGD", **wrapper):
    rate = dict(lr=0.1) | ({} if decay is None else dict(weight_decay=decay))
    with DefaultScope.overwrite_default_scope("mmdet"):
        config = dict(
            type="OptimWrapper",
            optimizer=dict(type=optimizer, **rate),
            constructor="EpsShiftOptimWrapperConstructor",
            **wrapper,
        )
        if paramwise is not None:
            config["paramwise_cfg"] = paramwise
        return build_optim_wrapper(model or Net(), config)


def settings(model, wrapper, key="weight_decay"):
    names = {p: n for n, p in model.named_parameters()}
    groups = wrapper.optimizer.param_groups
    return {names[p]: group[key] for group in groups for p in group["params"]}


@pytest.mark.parametrize("paramwise", [None, {}, dict(eps_shift=dict(lam=1e-4, eps=1e-3))])
def test_decay_of_each_kind(paramwise):
    model = Net()
    wrapper = build(paramwise, model)
    assert settings(model, wrapper) == {
        "stem.weight": 0.0,
        "stem.bias": 0.0,
        "norm.weight": 1e-4,
        "norm.bias": 0.0,
        "body.weight": 0.0,
        "body.bias": 0.0,
        "body.g": 1e-4,
        "plain.weight": 1e-4,
        "plain.bias": 0.0,
        "head.weight": 1e-4,
        "head.bias": 0.0,
    }
    assert set(claims(wrapper.optimizer)) == {model.stem.weight, model.body.weight}
    assert len(wrapper.optimizer.param_groups) == 2


def test_without_the_shift_normalized_weights_keep_ordinary_decay():
    model = Net()
    wrapper = build(dict(eps_shift=None), model)
    assert settings(model, wrapper)["stem.weight"] == 1e-4
    assert not claims(wrapper.optimizer) and not hasattr(wrapper.optimizer, "eps_shift")


def test_include_and_exclude_leave_the_rest_to_the_optimizer():
    model = Net()
    decay = settings(model, build(dict(eps_shift=dict(exclude="^body")), model))
    assert decay["stem.weight"] == 0 and decay["body.weight"] == 1e-4


def test_the_users_options_keep_their_meaning():
    model = Net()
    keys = {"body": dict(decay_mult=5.0, lr_mult=0.5), "plain": dict(lr_mult=0.1)}
    options = dict(custom_keys=keys, bias_decay_mult=2.0, norm_decay_mult=0.0, bias_lr_mult=3.0)
    wrapper = build(options, model)
    decay, rate = settings(model, wrapper), settings(model, wrapper, "lr")
    assert decay["body.weight"] == 0.0  # the shift wins over a custom key
    assert decay["body.bias"] == decay["body.g"] == pytest.approx(5e-4)
    assert decay["plain.weight"] == pytest.approx(1e-4)
    assert decay["plain.bias"] == 0.0  # a custom key without a decay does not give biases one
    assert decay["stem.bias"] == decay["head.bias"] == pytest.approx(2e-4)
    assert decay["norm.weight"] == decay["norm.bias"] == 0.0
    assert rate["body.weight"] == pytest.approx(0.05) and rate["plain.bias"] == pytest.approx(0.01)
    assert rate["stem.bias"] == pytest.approx(0.3) and rate["stem.weight"] == pytest.approx(0.1)


def test_biases_of_every_name_and_keys_as_mmengine_reads_them():
    layers = dict(attn=nn.MultiheadAttention(8, 2), fc=nn.Linear(8, 8), gru=nn.GRU(8, 8))
    model = nn.ModuleDict(dict(encoder=nn.ModuleDict(layers)))
    biases = {name for name, _ in model.named_parameters() if "bias" in name}
    assert len(biases) == 5

    def decayed(key, **options):
        keys = {key: dict(lr_mult=0.1)}
        of = settings(model, build(dict(custom_keys=keys, eps_shift=None, **options), model))
        assert {of[name] for name in set(of) - biases} == {1e-4}
        return {name for name in biases if of[name]}

    assert not decayed("encoder")  # a key without a decay gives no bias one
    assert not decayed("encoder", bias_decay_mult=1.0)
    # mmengine has no dot before the model's own layers, so this key is nobody's.
    stock = {"encoder.fc.bias", "encoder.attn.out_proj.bias"}  # what mmengine's option is for
    assert decayed(".encoder", bias_decay_mult=1.0) == stock
    assert decayed(".fc", bias_decay_mult=1.0) == stock - {"encoder.fc.bias"}


def test_an_optimizer_with_a_decay_of_its_own():
    """AdamW decays by 0.01 unless told otherwise."""
    model = Net()
    decay = settings(model, build(model=model, decay=None, optimizer="AdamW"))
    assert decay["stem.weight"] == decay["stem.bias"] == 0.0 and decay["head.weight"] == 0.01


def test_equal_groups_are_merged_on_a_detector(toy_data, tmp_path):
    config = toy_config(toy_data, tmp_path)
    from mmdet.registry import MODELS

    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config.model)
    wrapper = build(dict(norm_decay_mult=0.0), model)
    groups = wrapper.optimizer.param_groups
    assert len(groups) == 2
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(eps_shift=dict(lamda=1e-4)), "no option lamda; it takes lam, eps"),
        (dict(eps_shift=1e-4), "not a dictionary of options"),
        (dict(eps_shift=dict(lam=-1.0)), "lam"),
        (dict(eps_shift=dict(include="nowhere")), "nowhere"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        build(options)


def test_a_step_of_the_wrapper_applies_the_shift():
    """One SGD step without a gradient of the loss, against the formula per filter."""
    model = Net()
    wrapper = build(dict(eps_shift=dict(lam=0.5, eps=0.1)), model, decay=0.2, accumulative_counts=2)
    before = copy.deepcopy(model)
    for _ in range(2):  # the step is taken at the second
        with wrapper.optim_context(model):
            wrapper.update_params(sum((0 * p).sum() for p in model.parameters() if p.requires_grad))
    for row, was in zip(model.body.weight, before.body.weight, strict=True):
        torch.testing.assert_close(row, was - 0.1 * 0.5 * (was - 0.1 * was / was.norm()))
    torch.testing.assert_close(model.head.weight, before.head.weight * (1 - 0.1 * 0.2))
    torch.testing.assert_close(model.head.bias, before.head.bias)


def test_a_training_run_and_its_resumption(toy_data, tmp_path):
    """With EMA, clipping and accumulation; the regularizer survives `load_state_dict`."""
    changes = {
        "optim_wrapper.constructor": "EpsShiftOptimWrapperConstructor",
        "optim_wrapper.paramwise_cfg": dict(eps_shift=dict(lam=1e-2, eps=1e-3)),
        "optim_wrapper.accumulative_counts": 2,
        "optim_wrapper.optimizer.weight_decay": 1e-4,
        "custom_hooks": [dict(type="ReproducibleHook"), dict(type="EMAHook")],
    }
    whole = train(toy_config(toy_data, tmp_path / "a", length=2, **changes))
    resumed = train(
        toy_config(
            toy_data,
            tmp_path / "b",
            length=2,
            resume=True,
            load_from=str(tmp_path / "a" / "epoch_1.pth"),
            **changes,
        )
    )
    assert len(resumed.optim_wrapper.optimizer.param_groups) == 2
    for (name, a), b in zip(
        whole.model.named_parameters(), resumed.model.parameters(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("constructor", [None, "DefaultOptimWrapperConstructor"])
def test_the_shift_under_a_constructor_that_ignores_it_is_refused(toy_data, tmp_path, constructor):
    wrapper = {"optim_wrapper.paramwise_cfg": dict(eps_shift=dict(lam=1e-4))}
    if constructor:
        wrapper["optim_wrapper.constructor"] = constructor
    hooks = [dict(type="WeightTableHook")]
    with pytest.raises(ValueError, match="eps_shift, which DefaultOptimWrapperConstructor ignores"):
        train(toy_config(toy_data, tmp_path, length=1, custom_hooks=hooks, **wrapper))


@pytest.mark.parametrize("hook", ["NormFixHook", "NormMonitorHook"])
def test_each_of_our_hooks_that_looks_at_weights_refuses_it(toy_data, tmp_path, hook):
    wrapper = {"optim_wrapper.paramwise_cfg": dict(eps_shift=dict(lam=1e-4))}
    config = toy_config(toy_data, tmp_path, length=1, custom_hooks=[dict(type=hook)], **wrapper)
    with pytest.raises(BadInput, match="eps_shift, which DefaultOptimWrapperConstructor ignores"):
        train(config)


class Pair(nn.Module):
    """Two layers alike, of which the regularizer may get either."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.one, self.two = WSConv2d(4, 4, 3, bias=False), WSConv2d(4, 4, 3, bias=False)


def test_a_state_with_the_parameters_in_other_places_is_refused():
    """torch goes by the place alone, and would give one layer the momentum of the other."""
    wrappers = {}
    for included in ("one", "two"):
        model = Pair()
        wrappers[included] = build(dict(eps_shift=dict(include=included)), model)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        wrappers[included].optimizer.step()
    state = wrappers["one"].state_dict()
    with pytest.raises(BadInput, match="parameters in other groups.*load_from"):
        wrappers["two"].load_state_dict(copy.deepcopy(state))
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    build(dict(eps_shift=dict(include="one")), Pair()).load_state_dict(copy.deepcopy(saved))
    del saved["names"]  # of a stock run, or of one before names were saved
    wrappers["two"].load_state_dict(saved)


def test_a_shared_parameter_may_not_be_stepped_twice():
    with pytest.raises(ValueError, match="step a parameter that two layers share twice"):
        build(dict(bypass_duplicate=False))
