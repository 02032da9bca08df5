"""Bad input is found before training: paths, annotations, checkpoints, options, weight forms."""

import copy
import re
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner, save_checkpoint
from mmengine.runner.checkpoint import get_torchvision_models
from preflight.toy_preflight import CLASSES, sentence

from normfix_mm import fold
from normfix_mm.errors import BadInput
from normfix_mm.preflight import check

WS = dict(type="NormalizedResNet", normalize=dict(form="WS"))
WN = dict(type="NormalizedResNet", normalize=dict(form="WN", gain=True))


def set_backbone(cfg, backbone: dict | None) -> None:
    """Not `update`, which would merge the rule with the one that is there."""
    if backbone:
        cfg.model.backbone.pop("normalize", None)
        cfg.model.backbone.update(backbone)


def saved(cfg, file: Path, backbone: dict | None = None, folded=False, with_config=True) -> Path:
    """A checkpoint as the Runner writes it, of this model with another backbone."""
    cfg = copy.deepcopy(cfg)
    set_backbone(cfg, backbone)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model)
    meta = dict(cfg=cfg.pretty_text) if with_config else {}
    model = fold(model) if folded else model
    save_checkpoint(dict(state_dict=model.state_dict(), meta=meta), str(file))
    return file


def test_good_input_passes(cfg, toy, tmp_path):
    check(cfg, ("train", "val", "test"))
    dataset = cfg.train_dataloader.dataset
    repeated = dict(type="RepeatDataset", times=2, dataset=dataset)
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[repeated, dataset])
    cfg.load_from = str(saved(cfg, tmp_path / "plain.pth"))
    check(cfg, ("train", "val"))
    cfg.train_dataloader.dataset.datasets[0].dataset.data_root = "/nowhere"
    assert "/nowhere/train2017" in sentence(cfg)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "train_dataloader.dataset.data_root",
            "/nowhere/",
            "folder '/nowhere/train2017/' of train",
        ),
        ("val_dataloader.dataset.data_prefix.img", "absent/", "absent/' of val_dataloader"),
        ("train_dataloader.dataset.ann_file", "absent.json", "absent.json' of train_dataloader"),
        ("test_evaluator.ann_file", "/absent.json", "'/absent.json' of test_evaluator"),
        ("load_from", "absent.pth", "checkpoint 'absent.pth' of `load_from` does not exist"),
        ("model.init_cfg", dict(type="Pretrained", checkpoint="absent.pth"), "`init_cfg`"),
        ("model.bbox_head.type", "RetinaHaed", "RetinaHaed"),
        ("model.bbox_head.alhpa", 1.0, "alhpa"),
        ("model.backbone", WS | dict(normalize=dict(form="WS", layers="layer9")), "layer9"),
    ],
)
def test_a_wrong_setting_is_named(cfg, key, value, expected):
    cfg.merge_from_dict({key: value})
    assert expected in sentence(cfg)


def test_only_the_phases_of_the_run_are_checked(cfg):
    cfg.train_dataloader.dataset.data_root = "/nowhere/"
    check(cfg, ("test",))


@pytest.mark.parametrize("resume", [False, True])
def test_a_truncated_checkpoint(cfg, tmp_path, resume):
    file = saved(cfg, tmp_path / "iter_1.pth")
    file.write_bytes(file.read_bytes()[:-2000])
    if resume:
        (tmp_path / "last_checkpoint").write_text(str(file))
        cfg.merge_from_dict(dict(resume=True, work_dir=str(tmp_path)))
    else:
        cfg.load_from = str(file)
    assert "cannot be read" in sentence(cfg) and "cut off" in sentence(cfg)


def test_the_message_says_what_named_the_checkpoint(cfg):
    cfg.load_from = "absent.pth"
    for source, said in (
        ("`--resume`", "'absent.pth' of `--resume` does not exist; correct the path, or give --re"),
        (None, "The checkpoint 'absent.pth' does not exist; correct the path."),
    ):
        with pytest.raises(BadInput, match=re.escape(said)):
            check(cfg, ("test",), source)


def test_a_bare_backbone_is_no_checkpoint_of_the_model(cfg, tmp_path):
    state = torch.load(saved(cfg, tmp_path / "whole.pth"), weights_only=False)["state_dict"]
    bare = {k[9:]: v for k, v in state.items() if k.startswith("backbone.")}
    torch.save(bare, tmp_path / "bare.pth")
    cfg.load_from = str(tmp_path / "bare.pth")
    for phases in (("train", "val"), ("test",)):
        text = sentence(cfg, phases)
        assert f"None of the {len(bare)} keys of {cfg.load_from!r}" in text and "--as-mod" in text
    torch.save({f"module.backbone.{k}": v for k, v in bare.items()}, tmp_path / "bare.pth")
    check(cfg, ("train", "val"))  # a part may be loaded, and trained
    text = sentence(cfg, ("test",))
    assert "lacks" in text and "'neck.lateral_convs.0.conv.weight'" in text


def test_a_head_that_the_tested_checkpoint_does_not_have(cfg, tmp_path):
    cfg.load_from = str(saved(cfg, tmp_path / "retina.pth"))
    check(cfg, ("test",))
    cfg.model.bbox_head.num_classes = 3
    for phase in ("train", "test"):
        cfg[f"{phase}_dataloader"].dataset.metainfo = dict(classes=("disc", "box", "ring"))
    assert "does not fit the model" in sentence(cfg, ("test",), contents=False)
    check(cfg, ("train",), contents=False)
    cfg.model.bbox_head.update(num_classes=2, stacked_convs=2)
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    assert "'bbox_head.cls_convs.1.conv.weight'" in sentence(cfg, ("test",))


REFUSED = [(WS, None), (None, WS), (WN, None), (WN, WS), (WS, WN)]


@pytest.mark.parametrize(("have", "want"), REFUSED)
def test_a_checkpoint_of_another_form_is_refused(cfg, tmp_path, have, want):
    cfg.load_from = str(saved(cfg, tmp_path / "other.pth", have))
    set_backbone(cfg, want)
    text = sentence(cfg)
    names = {str(None): "plain", str(WS): "WS", str(WN): "WN with gain"}
    assert f"holds {names[str(have)]} weights where the model has {names[str(want)]}" in text
    assert re.search(r"\(20 of \d+, first 'backbone.conv1.weight'\)", text) and "fold" in text


@pytest.mark.parametrize(("have", "want"), [(None, None), (WS, WS), (WN, WN), (None, WN)])
def test_a_checkpoint_whose_function_survives_is_taken(cfg, tmp_path, have, want):
    cfg.load_from = str(saved(cfg, tmp_path / "same.pth", have))
    set_backbone(cfg, want)
    check(cfg, ("train",))


def test_without_a_stored_config_the_gains_tell(cfg, tmp_path):
    cfg.load_from = str(saved(cfg, tmp_path / "bare.pth", WN, with_config=False))
    assert "with gain" in sentence(cfg)
    set_backbone(cfg, WN)
    check(cfg, ("train",))


def test_a_folded_checkpoint_is_plain_whatever_config_it_carries(cfg, tmp_path):
    cfg.load_from = str(saved(cfg, tmp_path / "folded.pth", WN, folded=True))
    check(cfg, ("train",))


def test_a_checkpoint_must_hold_a_state_dict(cfg, tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    cfg.load_from = str(tmp_path / "list.pth")
    assert "holds a list" in sentence(cfg)


def pretrain(cfg, checkpoint, **options) -> None:
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(checkpoint), **options)


def test_init_cfg_files_are_compared_too(cfg, tmp_path):
    file = saved(cfg, tmp_path / "plain.pth")
    set_backbone(cfg, WS)
    pretrain(cfg, file, prefix="backbone.")
    text = sentence(cfg)
    assert (
        "holds plain weights where the model has WS ones (20 of 20, first 'conv1.weight')" in text
    )
    check(cfg, ("test",))  # nothing is initialized there
    cfg.load_from = str(saved(cfg, tmp_path / "ws.pth", WS))  # takes the place of those weights
    check(cfg, ("train",))
    cfg.load_from = None
    pretrain(cfg, tmp_path / "ws.pth", prefix="backbone")
    check(cfg, ("train",))
    set_backbone(cfg, WN)
    assert "holds WS weights where the model has WN with gain" in sentence(cfg)


@pytest.mark.parametrize("where", ["local", "torchvision://resnet18"])
@pytest.mark.parametrize(("want", "warned"), [(WS, True), (WN, False), (None, False)])
def test_weights_of_unknown_form_are_warned_of(cfg, tmp_path, monkeypatch, where, want, warned):
    """Files as torchvision's are: bare names, no config."""
    set_backbone(cfg, want)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = Path(get_torchvision_models()["resnet18"]).name
    file = tmp_path / "hub/checkpoints" / name
    file.parent.mkdir(parents=True)
    plain = copy.deepcopy(cfg.model)
    plain.backbone.pop("normalize", None)
    plain.backbone.type = "ResNet"
    with DefaultScope.overwrite_default_scope("mmdet"):
        torch.save(MODELS.build(plain).backbone.state_dict(), file)
    pretrain(cfg, file if where == "local" else where)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(cfg, ("train",))
    said = [str(w.message) for w in caught if "pretrained" in str(w.message)]
    assert len(said) == warned
    if warned:
        assert "initializes 20 WS layers" in said[0] and "WS layers need WS-pretrained" in said[0]


SHIFT = "EpsShiftOptimWrapperConstructor"
FIX = dict(type="NormFixHook")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"paramwise_cfg": dict(eps_shift=dict(lam=-1))}, "lam must be a finite number ≥ 0"),
        ({"paramwise_cfg": dict(eps_shift=dict(lamda=1))}, "no option lamda"),
        ({"paramwise_cfg": dict(eps_shift=dict(include="nowhere"))}, "'nowhere' matches no weight"),
        ({"optimizer.lr": -1.0}, "Invalid learning rate"),
        ({"optimizer.type": "SDG"}, "no optimizer 'SDG'"),
    ],
)
def test_a_wrong_optimizer_setting_is_named(cfg, changes, expected):
    set_backbone(cfg, WS)
    cfg.optim_wrapper.constructor = SHIFT
    cfg.merge_from_dict({f"optim_wrapper.{key}": value for key, value in changes.items()})
    text = sentence(cfg)
    assert "ptimizer" in text and expected in text
    check(cfg, ("test",))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"optimizer.lr": 0.0}, "rate of optim_wrapper.optimizer is 0"),
        ({"clip_grad": dict(maxnorm=1.0)}, "clip_grad has no option 'maxnorm': max_norm, "),
        ({"clip_grad": dict(max_norm=0)}, "clip_grad has max_norm=0; give a number above 0"),
        ({"clip_grad": dict(type="value", clip_value=-1.0)}, "clip_grad has clip_value=-1.0"),
    ],
)
def test_settings_with_which_nothing_is_trained(cfg, changes, expected):
    cfg.merge_from_dict({f"optim_wrapper.{key}": value for key, value in changes.items()})
    assert expected in sentence(cfg, ("train",))


def test_custom_keys_that_match_nothing_are_said(cfg, capsys):
    keys = dict(backbone=dict(lr_mult=0.1), bakbone=dict(lr_mult=0.1))
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys=keys)
    check(cfg, ("train",))
    assert "custom_keys has 'bakbone', which is in no" in capsys.readouterr().err


def test_clipping_that_is_right(cfg):
    for clip in (dict(max_norm=35, norm_type=2), dict(type="value", clip_value=0.5)):
        cfg.optim_wrapper.clip_grad = clip
        check(cfg, ("train",))


@pytest.mark.parametrize("factor", [1, 255])
def test_pixels_from_0_to_1_are_said(cfg, capsys, factor):
    cfg.model.data_preprocessor.update(
        mean=[factor * v for v in (0.485, 0.456, 0.406)],
        std=[factor * v for v in (0.229, 0.224, 0.225)],
    )
    check(cfg, ("train",))
    assert ("multiply both by 255" in capsys.readouterr().err) == (factor == 1)


@pytest.mark.parametrize(
    ("hook", "decay", "expected"),
    [
        (FIX | dict(mdoe="joint"), 0.0, "unexpected keyword argument 'mdoe'"),
        (FIX | dict(mdoe="joint"), 0.0, "it takes mode, weights, include, exclude, check, int"),
        (FIX | dict(check="never"), 0.0, "check='never'"),
        (FIX | dict(mode="both"), 0.0, "mode must be 'joint' or 'layer', got 'both'"),
        (FIX | dict(weights="all"), 0.0, "weights='all'"),
        (FIX | dict(include="nowhere"), 0.0, "'nowhere' matches no weight"),
        (FIX, 1e-4, "decays 27 of the 27 weights"),
        (dict(type="NormFixHok"), 0.0, "there is no hook 'NormFixHok'"),
    ],
)
def test_a_wrong_hook_setting_is_named(cfg, hook, decay, expected):
    cfg.custom_hooks = [dict(type="ReproducibleHook"), hook]
    cfg.optim_wrapper.optimizer.weight_decay = decay
    assert expected in sentence(cfg)


def test_a_wrong_name_among_the_default_hooks_is_named(cfg):
    cfg.default_hooks.weight_table = dict(type="WeightTabelHook")
    assert "there is no hook 'WeightTabelHook'" in sentence(cfg)


@pytest.mark.parametrize("hooks", ["custom_hooks", "default_hooks"])
def test_our_hooks_are_tried_wherever_they_stand(cfg, hooks):
    options = FIX | dict(include="nowhere")
    cfg[hooks] = [options] if hooks == "custom_hooks" else dict(norm_fix=options)
    cfg.optim_wrapper.optimizer.weight_decay = 0.0
    assert "'nowhere' matches no weight" in sentence(cfg)
    options["type"] = "NormFixHok"
    cfg[hooks] = [options] if hooks == "custom_hooks" else dict(norm_fix=options)
    named = hooks if hooks == "custom_hooks" else "default_hooks.norm_fix"
    assert f"{named}: there is no hook 'NormFixHok'" in sentence(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes it")
def test_mixed_precision_without_a_gpu(cfg):
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    assert "(--amp, AmpOptimWrapper) needs a GPU, and torch finds none here" in sentence(cfg)
    check(cfg, ("test",))


def test_two_treatments_on_one_weight(cfg):
    set_backbone(cfg, WS)
    cfg.optim_wrapper.update(constructor=SHIFT)
    cfg.optim_wrapper.optimizer.weight_decay = 0.0
    cfg.custom_hooks = [FIX]
    assert "already under ε-shift" in sentence(cfg)
    cfg.custom_hooks = [FIX | dict(exclude="backbone", priority="LOW"), dict(type="EMAHook")]
    check(cfg, ("train",))


@pytest.mark.slow
def test_the_check_leaves_the_run_alone(cfg, tmp_path):
    """The config, the logger's level, and a training run after it, bit for bit."""
    cfg.merge_from_dict(dict(randomness=dict(seed=1), work_dir=str(tmp_path / "a")))
    cfg.optim_wrapper.constructor = SHIFT
    cfg.custom_hooks = [FIX | dict(exclude="backbone", check=False)]
    set_backbone(cfg, WS)
    cfg.optim_wrapper.optimizer.weight_decay = 0.0
    cfg.train_cfg.max_epochs = 1
    cfg.train_cfg.val_interval = 2
    states = []
    for name in ("without", "with"):
        cfg.merge_from_dict(dict(work_dir=str(tmp_path / name), experiment_name=f"left_{name}"))
        if name == "with":
            before, level = cfg.pretty_text, MMLogger.get_current_instance().level
            check(cfg, ("train", "val"))
            assert cfg.pretty_text == before
            assert MMLogger.get_current_instance().level == level
        runner = Runner.from_cfg(cfg)
        runner.train()
        states.append(runner.model.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
