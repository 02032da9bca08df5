"""What the preflight says of checkpoints: of other classes, not finite, not of a run, elsewhere."""

import warnings
from pathlib import Path

import pytest
import torch
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner.checkpoint import get_torchvision_models
from preflight.toy_preflight import CLASSES, sentence

from normfix_mm.checkpoints import files
from normfix_mm.checkpoints.safe_load import trust
from normfix_mm.convert.convert import convert
from normfix_mm.preflight import check
from normfix_mm.preflight.trained_classes import check_resumable

pytestmark = pytest.mark.slow

WS = dict(type="NormalizedResNet", normalize=dict(form="WS"))


@pytest.fixture
def content(cfg):
    """What a run of this config writes."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model)
        metainfo = DATASETS.build(cfg.train_dataloader.dataset).metainfo
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return dict(
        meta=dict(epoch=1, iter=3, dataset_meta=metainfo, cfg=cfg.pretty_text),
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
        param_schedulers=[dict(last_step=3)] * len(cfg.param_scheduler),
    )


@pytest.fixture
def resumed(cfg, tmp_path):
    """Check the config with --resume of this content."""

    def run(content) -> str | None:
        torch.save(content, tmp_path / "iter_3.pth")
        cfg.resume, cfg.load_from = True, str(tmp_path / "iter_3.pth")

    return run


def set_classes(cfg, *classes: str) -> None:
    cfg.model.bbox_head.num_classes = len(classes)
    for phase in ("train", "val", "test"):
        cfg[f"{phase}_dataloader"].dataset.metainfo = dict(classes=classes)


def test_a_run_of_the_same_classes_goes_on(cfg, content, resumed):
    resumed(content)
    check(cfg, ("train", "val"))


def test_a_resumed_run_must_have_the_classes_in_its_order(cfg, content, resumed):
    """The file of annotations may have another by now, and the config goes by it."""
    content["meta"]["dataset_meta"]["classes"] = CLASSES[::-1]
    resumed(content)
    text = sentence(cfg, ("train",))
    assert "same classes in another order" in text
    assert "class number 0 was 'box' and is 'disc'" in text and "load_from" in text
    cfg.resume = False
    check(cfg, ("train",))  # weights alone are taken to other classes


def test_a_resumed_run_must_have_the_same_classes(cfg, content):
    set_classes(cfg, "disc", "circle", "ball")
    with pytest.raises(ValueError, match=r"config has no 'box'; the config adds 'ball', 'circle'"):
        check_resumable(content, "iter_3.pth", cfg)


def test_a_model_is_not_tested_under_its_names_in_another_order(cfg, content, resumed):
    content["meta"]["dataset_meta"]["classes"] = CLASSES[::-1]
    resumed(content)
    cfg.resume = False
    assert "would be taken for other classes" in sentence(cfg, ("test",))


def test_a_model_of_other_classes_of_the_same_number_is_said(cfg, content, resumed, capsys):
    content["meta"]["dataset_meta"]["classes"] = ("cat", "dog")
    resumed(content)
    cfg.resume = False
    check(cfg, ("test",))
    assert "was trained on other classes than the config's" in capsys.readouterr().err


@pytest.mark.parametrize("change", [dict(meta={}), dict(meta=dict(epoch=-1, iter=3))])
def test_weights_alone_cannot_be_resumed(cfg, content, resumed, change):
    resumed(content | change)
    assert "no state of a run" in sentence(cfg, ("train",))


@pytest.mark.parametrize("absent", ["optimizer", "param_schedulers"])
def test_the_best_checkpoint_cannot_be_resumed(cfg, content, resumed, absent):
    """mmengine writes it without these, and would go on with schedules at their beginning."""
    del content[absent]
    resumed(content)
    text = sentence(cfg, ("train",))
    assert f"has no {absent!r}" in text and "best_" in text and "load_from" in text


@pytest.mark.parametrize("change", ["fewer", "another shape", "a number"])
def test_a_resumed_run_needs_all_its_weights(cfg, content, resumed, change):
    """mmengine would leave the others as they are drawn, and go on."""
    name = "neck.fpn_convs.0.conv.weight"
    if change == "fewer":
        del content["state_dict"][name]
    else:
        content["state_dict"][name] = torch.ones(2) if change == "another shape" else 3
    resumed(content)
    assert name in sentence(cfg, ("train",))
    cfg.resume = False
    if change != "a number":
        check(cfg, ("train",))  # weights to start from may be fewer


def test_what_weights_to_start_from_leave_out_is_said(cfg, content, resumed, capsys):
    resumed(content)
    cfg.resume = False
    check(cfg, ("train",))
    assert "start anew" not in capsys.readouterr().out
    names = [name for name in content["state_dict"] if name.startswith("bbox_head.")]
    for name in names:
        del content["state_dict"][name]
    resumed(content)
    cfg.resume = False
    check(cfg, ("train",))
    assert f"the others start anew: '{names[0]}'" in capsys.readouterr().out
    resumed(
        dict(state_dict={"backbone.conv1.weight": content["state_dict"]["backbone.conv1.weight"]})
    )
    cfg.resume = False
    check(cfg, ("train",))
    assert "has 1 of the model's" in capsys.readouterr().err


def test_what_a_resumed_run_does_not_take_from_the_config_is_said(cfg, content, resumed, capsys):
    resumed(content)
    check(cfg, ("train",))
    assert "keeps its own" not in capsys.readouterr().err
    cfg.optim_wrapper.optimizer.lr = 0.5
    cfg.param_scheduler[1].milestones = [5, 7]
    check(cfg, ("train",))
    said = capsys.readouterr().err
    assert "'optim_wrapper.optimizer.lr' of the config are not those of the run" in said
    assert "'param_scheduler.1.milestones.0'" in said and "load_from" in said
    shift, slow = dict(eps_shift=dict(lam=0.5)), dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))
    cfg.optim_wrapper.paramwise_cfg = shift
    check(cfg, ("train",))
    assert "paramwise_cfg" not in capsys.readouterr().err
    cfg.optim_wrapper.paramwise_cfg = shift | slow
    check(cfg, ("train",))
    assert "'optim_wrapper.paramwise_cfg.custom_keys" in capsys.readouterr().err


def test_settings_that_weights_do_not_tell_are_said(cfg, content, resumed, capsys):
    resumed(content)
    cfg.model.test_cfg.score_thr = 0.3  # may be chosen
    check(cfg, ("test",))
    assert "was trained" not in capsys.readouterr().err
    cfg.model.data_preprocessor.mean = [0.0, 0.0, 0.0]
    cfg.model.bbox_head.anchor_generator.octave_base_scale = 8
    for phase in ("train", "test"):
        check(cfg, (phase,))
        said = capsys.readouterr().err
        assert "'model.bbox_head.anchor_generator.octave_base_scale', 'model.data_pre" in said
        assert "of the config are not as" in said and "was trained" in said


def test_norms_without_their_statistics_are_named(cfg, content, resumed):
    """As in a file of averaged parameters."""
    state = content["state_dict"]
    for name in [name for name in state if "running" in name]:
        del state[name]
    resumed(content)
    assert "lacks 40 of the model's keys ('backbone.bn1.running_mean'" in sentence(cfg, ("test",))


def test_a_run_at_its_end_is_said(cfg, content, resumed, capsys):
    content["meta"].update(epoch=cfg.train_cfg.max_epochs)
    resumed(content)
    check(cfg, ("train",))
    assert "nothing is left to train" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(cfg, content, resumed, value):
    content["state_dict"]["bbox_head.retina_cls.weight"].view(-1)[5] = value
    resumed(content)
    text = sentence(cfg, ("train",))
    assert "1 values of" in text and "'state_dict.bbox_head.retina_cls.weight'" in text
    assert "earlier checkpoint" in text
    cfg.resume = False
    assert "not finite" in sentence(cfg, ("test",))


def test_nor_may_the_optimizer_s_state_be(cfg, content, resumed):
    content["optimizer"]["state"] = {7: dict(momentum_buffer=torch.tensor([0.0, float("nan")]))}
    resumed(content)
    assert "'optimizer.state.7.momentum_buffer'" in sentence(cfg, ("train",))


def test_conversion_and_folding_refuse_them_too(tmp_path):
    for name in ("a.pth", "a.safetensors"):
        files.write(tmp_path / name, {"conv.weight": torch.tensor([1.0, float("nan")])}, {})
        with pytest.raises(ValueError, match=r"1 values of 2 in 'conv.weight' that are not finite"):
            files.read(tmp_path / name)


def test_a_mismatch_that_was_meant_is_warned_of_and_taken(cfg, content, tmp_path):
    """The file says so itself, to every command that reads it later."""
    cfg.model.backbone.update(WS)
    with DefaultScope.overwrite_default_scope("mmdet"):
        target = MODELS.build(cfg.model.backbone)
    names = {k[9:]: v for k, v in content["state_dict"].items() if k.startswith("backbone.")}
    options = dict(target=target, form="plain")
    with pytest.raises(ValueError, match="holds plain weights"):
        convert(names, {}, **options)
    made = convert(names, {}, allow_mismatch=True, **options)
    assert "WARNING: allowed nevertheless" in str(made.report)
    files.write(tmp_path / "made.pth", made.state, made.meta)
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "made.pth"))
    with pytest.warns(UserWarning, match="converted with --allow-mismatch: it holds plain weights"):
        check(cfg, ("train",))
    again = convert(names, {}, allow_mismatch=True, target=target, form="WS")
    assert made.meta.keys() - again.meta.keys() == {"normfix_mismatch_allowed"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    return tmp_path / "hub/checkpoints"


def test_weights_that_cannot_be_downloaded_are_missed_before_training(cfg, cache):
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="torchvision://resnet18")
    text = sentence(cfg, ("train",))
    assert text.startswith("The weights 'torchvision://resnet18' of `init_cfg` are not in the")
    assert str(cache) in text
    check(cfg, ("test",))  # which initializes nothing


def test_downloaded_weights_are_looked_at_as_others_are(cfg, cache, content):
    name = Path(get_torchvision_models()["resnet18"]).name
    names = {k[9:]: v for k, v in content["state_dict"].items() if k.startswith("backbone.")}
    torch.save(names, cache / name)
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="torchvision://resnet18")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check(cfg, ("train",))
    names["conv1.weight"][0] = float("nan")
    torch.save(names, cache / name)
    assert "'conv1.weight'" in sentence(cfg, ("train",))


def test_pickles_among_the_data_are_refused_before_they_are_read(cfg, tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"")
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path), ann_file="a.pkl")
    text = sentence(cfg, ("train",))
    assert f"{str(tmp_path / 'a.pkl')!r} of train_dataloader is a pickle" in text
    assert "--trust-checkpoint" in text
    trust([tmp_path / "a.pkl"])
    assert "is a pickle" not in sentence(cfg, ("train",))  # but no JSON


def test_a_folder_is_no_checkpoint(cfg, tmp_path):
    cfg.load_from = str(tmp_path)
    assert "is a folder; give the checkpoint file in it" in sentence(cfg, ("train",))


@pytest.mark.parametrize(
    "damage",
    [
        dict(state_dict="weights"),
        dict(state_dict={5: torch.ones(1)}),
        dict(meta=None),
        dict(meta=torch.ones(2)),
    ],
)
def test_other_things_in_the_place_of_weights_and_metadata(cfg, content, resumed, damage):
    resumed(content | damage)
    assert "is damaged: its '" in sentence(cfg, ("train",))
