"""What is read from configs and written into them, on the configs of this project and others'."""

import pytest
from helpers.small_folders import CONFIGS, ROOT, config_of
from mmengine.config import Config
from mmengine.registry import MODELS

from normfix_mm.errors import BadInput
from normfix_mm.models.mixins import FixNorm
from normfix_mm.run.rows import choose_row
from normfix_mm.tuning import knobs
from normfix_mm.tuning.settings import complete

FIXNORM = sorted(
    p for p in ROOT.glob("configs/**/*fixnorm*.py") if not {"_base_", "rows"} & set(p.parts)
)


def read(path) -> Config:
    return Config.fromfile(path, import_custom_modules=False)


@pytest.mark.slow
@pytest.mark.parametrize("path", FIXNORM, ids=lambda path: path.stem)
def test_rate_and_alpha_of_every_fixnorm_config_are_found(path):
    cfg = read(path)
    if cfg.get("rows"):  # a table
        choose_row(cfg, next(name for name in cfg.rows if "fixnorm" in name))
    knobs.check_fixnorm(cfg)
    knobs.set_values(cfg, dict(lr=0.123, alpha=7))
    assert cfg.optim_wrapper.optimizer.lr == 0.123
    text = cfg.pretty_text
    nodes = list(knobs.fixnorm_nodes(cfg.model))
    assert len(nodes) == text.count("'FixNorm") and {node["alpha"] for node in nodes} == {7.0}
    assert text.count("alpha=7.0") == len(nodes)  # and no other alpha, such as the focal loss's


@pytest.mark.parametrize(
    "path", [p for p in CONFIGS if "fixnorm" not in p.name], ids=lambda p: p.stem
)
def test_configs_without_fixnorm_are_refused(path):
    with pytest.raises(BadInput, match="no head or layer of FixNorm's.*and no NormFixHook.*bo-wd"):
        knobs.check_fixnorm(read(path))
    with pytest.raises(BadInput, match="no α to tune"):
        knobs.set_values(read(path), dict(alpha=1))


def test_a_head_of_ones_own_is_known_by_its_class():
    class Own:
        pass

    @MODELS.register_module(name="TestOwnHead", force=True)
    class OwnHead(FixNorm, Own):
        pass

    nodes = list(knobs.fixnorm_nodes(dict(head=dict(type="TestOwnHead", loss=dict(alpha=0.25)))))
    assert [node["type"] for node in nodes] == ["TestOwnHead"]
    assert [n["type"] for n in knobs.fixnorm_nodes([dict(type=OwnHead)])] == [OwnHead]
    rules = dict(type="Net", normalize=[dict(form="WN"), dict(form="FixNorm", alpha=1)])
    assert [node["form"] for node in knobs.fixnorm_nodes(rules)] == ["FixNorm"]


def test_decay_and_epsilon_are_set_where_the_method_has_them():
    shifted = read(config_of("retinanet_r18_fpn", "ws-eps"))
    knobs.set_values(shifted, dict(lam=3e-4, eps=1e-2))
    assert shifted.optim_wrapper.optimizer.weight_decay == 3e-4
    assert shifted.optim_wrapper.paramwise_cfg.eps_shift == dict(lam=3e-4, eps=1e-2)
    plain = knobs.set_values(read(config_of("retinanet_r18_fpn", "baseline")), dict(lam=3e-4))
    assert plain.optim_wrapper.optimizer.weight_decay == 3e-4
    with pytest.raises(BadInput, match="has no ε to tune"):
        knobs.set_values(plain, dict(eps=1e-3))
    with pytest.raises(BadInput, match="no λ acts"):
        knobs.set_values(read(config_of("retinanet_r18_fpn", "fixnorm")), dict(lam=1e-4))
    knobs.check_decay(plain)
    for method, words in (("ws-eps", "ε-shifted"), ("fixnorm", "NormFixHook")):
        with pytest.raises(BadInput, match=f"{words}.*its baseline"):
            knobs.check_decay(read(config_of("retinanet_r18_fpn", method)))


def test_seed_and_settings_by_their_names():
    cfg = read(config_of("retinanet_r18_fpn", "fixnorm"))
    knobs.set_values(cfg, {"seed": 5.0, "optim_wrapper.clip_grad.max_norm": 1.0})
    assert cfg.randomness.seed == 5 and cfg.optim_wrapper.clip_grad.max_norm == 1.0


def test_one_cycles_own_rate_follows():
    cfg = read(config_of("retinanet_r18_fpn", "fixnorm"))
    cfg.param_scheduler = [dict(type="OneCycleLR", eta_max=0.1, total_steps=10)]
    cfg.optim_wrapper.optimizer.lr = 0.1
    knobs.set_values(cfg, dict(lr=0.3))
    assert cfg.param_scheduler[0].eta_max == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("model", "metric"),
    [
        ("retinanet_r18_fpn", "bbox_mAP"),
        ("mask-rcnn_r18_fpn", "segm_mAP"),
        ("ocnet_r18-d8", "mIoU"),
    ],
)
def test_the_evaluator_says_the_metric(model, metric):
    cfg = read(config_of(model, "fixnorm"))
    assert knobs.metric_of(cfg) == (metric, "maximize")
    knobs.check_metric(cfg, metric)
    for other in ("top1", "loss_of_my_own"):
        with pytest.raises(BadInput, match=f"reports '{other}'; they report .*{metric}"):
            knobs.check_metric(cfg, other)


@pytest.mark.parametrize(
    ("evaluator", "metric"),
    [
        (dict(type="mmpretrain.Accuracy", topk=(1, 5)), "accuracy/top1"),
        ([dict(type="CityscapesMetric"), dict(type="IoUMetric", iou_metrics=["mDice"])], "mDice"),
        (dict(type="VOCMetric", metric="mAP"), "mAP"),
        (dict(type="LVISMetric", metric=["bbox", "segm"]), "segm_AP"),
    ],
)
def test_metrics_of_other_evaluators(evaluator, metric):
    cfg = Config(dict(val_evaluator=evaluator, val_dataloader=dict(batch_size=1)))
    assert knobs.metric_of(cfg) == (metric, "maximize")


def test_what_the_checkpoint_hook_saves_by_comes_first():
    cfg = read(config_of("retinanet_r18_fpn", "fixnorm"))
    cfg.default_hooks.checkpoint.save_best = "coco/bbox_mAP_50"
    assert knobs.metric_of(cfg) == ("coco/bbox_mAP_50", "maximize")
    cfg.default_hooks.checkpoint.update(save_best="own/error", rule="less")
    assert knobs.metric_of(cfg) == ("own/error", "minimize")
    cfg.default_hooks.checkpoint.save_best = "auto"
    assert knobs.metric_of(cfg)[0] == "bbox_mAP"
    assert knobs.direction_of("val_loss") == "minimize"


def test_the_direction_is_that_of_the_metric_that_is_asked_for():
    """`rule` is of save_best's metric, tune_cfg's direction of tune_cfg's."""
    cfg = read(config_of("retinanet_r18_fpn", "fixnorm"))
    cfg.val_evaluator = [cfg.val_evaluator, dict(type="Own")]
    cfg.default_hooks.checkpoint.update(save_best="own/error", rule="less")

    def direction(**given) -> str:
        return complete("fixnorm", cfg, given)["direction"]

    assert direction() == direction(metric="own/error") == direction(metric="error") == "minimize"
    assert direction(metric="coco/bbox_mAP") == "maximize"
    cfg.tune_cfg = dict(metric="own/rmse", direction="minimize")
    assert direction() == direction(metric="own/rmse") == "minimize"
    assert direction(metric="coco/bbox_mAP") == "maximize"
    assert direction(metric="own/mae", direction="minimize") == "minimize"
    with pytest.raises(BadInput, match="Whether 'own/mae' is the better .* add --direction"):
        direction(metric="own/mae")


def test_no_evaluation_and_unknown_evaluators_are_said():
    with pytest.raises(BadInput, match="validates nothing"):
        knobs.metric_of(Config(dict(model={})))
    cfg = Config(dict(val_evaluator=dict(type="Own"), val_dataloader=dict(batch_size=1)))
    with pytest.raises(BadInput, match="What Own reports is not known here.*--metric"):
        knobs.metric_of(cfg)
    knobs.check_metric(cfg, "anything")


def test_ranges_are_the_papers_unless_told():
    assert knobs.default_lr_range(Config(dict(default_scope="mmpretrain"))) == (0.2, 3.2)
    assert knobs.default_lr_range(Config(dict(default_scope="mmseg"))) == (0.005, 0.1)


@pytest.mark.parametrize(
    "optim", [{}, dict(constructor="Many"), dict(optimizer=dict(type="Rprop"))]
)
def test_a_config_without_a_rate_is_refused(optim):
    with pytest.raises(BadInput, match=r"no optim_wrapper\.optimizer|has no lr"):
        knobs.set_values(Config(dict(optim_wrapper=optim)), dict(lr=0.1))


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("train_dataloader.batch_size", 4.0, "4"),
        ("optim_wrapper.optimizer.momentum", 1.0, "1.0"),
        ("param_scheduler.0.end", 20.0, "20"),
        ("model.bbox_head.loss_cls.gamma", 1.5, "1.5"),
        ("model.bbox_head.loss_cls.use_sigmoid", 0.0, "False"),
        ("optim_wrapper.clip_grad.max_norm", 3.0, "3"),
        ("model.bbox_head.loss_cls.loss_weight", 0.5, "0.5"),  # not there: it is added
    ],
)
def test_a_dotted_setting_keeps_its_kind(name, value, written):
    cfg = Config(
        dict(
            train_dataloader=dict(batch_size=2),
            optim_wrapper=dict(optimizer=dict(momentum=0.9), clip_grad=dict(max_norm=35)),
            param_scheduler=[dict(type="LinearLR", end=500)],
            model=dict(bbox_head=dict(loss_cls=dict(gamma=2, use_sigmoid=True))),
        )
    )
    knobs.set_values(cfg, {name: value})
    found = cfg
    for key in name.split("."):
        found = found[int(key)] if isinstance(found, list) else found[key]
    assert repr(found) == written


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("foo", 1, "no setting 'foo' to tune; it is lr, alpha"),
        ("", 1, "no setting '' to tune"),
        ("seed", 1.5, "A seed is a whole number, not 1.5"),
        ("model.nonsense.x", 1, "has no model.nonsense, of model.nonsense.x, to tune"),
        ("param_scheduler.3.end", 1, "has no param_scheduler.3, of"),
        ("model.backbone", 1, "no number at model.backbone"),
        ("model.backbone.type", 1, "no number at model.backbone.type .*'ResNet'"),
        ("param_scheduler.0", 1, "no number at param_scheduler.0"),
        ("param_scheduler.1", 1, "no number at param_scheduler.1"),
    ],
)
def test_what_the_config_has_no_place_for_is_said(name, value, words):
    cfg = Config(dict(model=dict(backbone=dict(type="ResNet")), param_scheduler=[dict(end=500)]))
    with pytest.raises(BadInput, match=words):
        knobs.set_values(cfg, {name: value})


def test_hooks_that_are_no_list_are_said():
    cfg = Config(dict(custom_hooks=dict(type="NormFixHook")))
    with pytest.raises(BadInput, match="custom_hooks is a list of hooks, not"):
        knobs.hooks(cfg)


@pytest.mark.parametrize("lr", [0.0, "abc"])
def test_a_cycle_whose_rate_cannot_be_scaled_is_said(lr):
    cfg = Config(
        dict(
            optim_wrapper=dict(optimizer=dict(lr=lr)),
            param_scheduler=dict(type="OneCycleLR", eta_max=0.1),
        )
    )
    with pytest.raises(BadInput, match="by which OneCycleLR's eta_max cannot be scaled"):
        knobs.set_values(cfg, dict(lr=0.2))
