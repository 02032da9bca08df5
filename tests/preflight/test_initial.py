"""Files that `init_cfg` names: of other keys than the module's, and no longer needed."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from preflight.toy_preflight import CLASSES, sentence

from normfix_mm.checkpoints.initial import check_initial_keys
from normfix_mm.preflight import check


@pytest.fixture
def state(cfg):
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg.model).state_dict()


@pytest.fixture
def start(cfg, tmp_path):
    """Have the backbone start from these weights."""

    def write(weights, **options):
        torch.save(weights, tmp_path / "start.pth")
        cfg.model.backbone.init_cfg = dict(
            type="Pretrained", checkpoint=str(tmp_path / "start.pth"), **options
        )

    return write


@pytest.mark.parametrize("normalized", [False, True])
def test_a_whole_model_without_the_prefix_is_refused(cfg, state, start, normalized):
    if normalized:  # by weight normalization, whose gains no file needs
        cfg.model.backbone.type = "NormalizedResNet"
    start(dict(state_dict=state, meta={}))
    text = sentence(cfg, ("train",), contents=False)
    assert f"None of the {len(state)} keys of" in text and "is one of backbone, whose init_" in text
    assert "give it prefix='backbone.', or set init_cfg=None" in text
    start(state, prefix="backbone.")
    check(cfg, ("train",), contents=False)
    start({f"module.student.{key}": value for key, value in state.items()})
    assert "prefix='module.student.backbone.'" in sentence(cfg, ("train",), contents=False)


def test_a_prefix_that_the_file_does_not_have_is_refused(cfg, state, start):
    bare = {key[9:]: value for key, value in state.items() if key.startswith("backbone.")}
    start(bare, prefix="backbone")
    text = sentence(cfg, ("train",), contents=False)
    assert "below 'backbone.'" in text and "leave its prefix out" in text
    start({f"module.{key}": value for key, value in bare.items()})
    check(cfg, ("train",), contents=False)
    start({f"layers.{key}": torch.ones(1) for key in range(3)})
    assert "give one of the same network" in sentence(cfg, ("train",), contents=False)


def test_one_key_in_common_is_enough(cfg, state, start):
    start({"conv1.weight": state["backbone.conv1.weight"], "other": torch.ones(1)})
    check(cfg, ("train",), contents=False)


@pytest.mark.parametrize("takes", [False, True])
def test_a_network_that_renames_by_itself_is_left_to_it(takes):
    """MMDetection's Swin takes the names of its authors with `convert_weights`."""
    kind = dict(type="mmdet.SwinTransformer" if takes else "mmdet.ResNet", init_cfg=None)
    options = dict(embed_dims=24, depths=(1, 1, 1, 1)) if takes else dict(depth=18)
    net = MODELS.build(kind | options)
    net.init_cfg = dict(type="Pretrained", checkpoint="a.pth")
    content = {"a.pth": dict(model={"layers.0.blocks.0.norm1.weight": torch.ones(24)})}
    if takes:
        check_initial_keys(net, content)
    else:
        with pytest.raises(ValueError, match="of the same network"):
            check_initial_keys(net, content)


def test_a_run_that_goes_on_does_not_ask_for_what_it_started_from(cfg, state, tmp_path):
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "gone.pth"))
    assert "of `init_cfg` does not exist" in sentence(cfg, ("train",), contents=False)
    content = dict(
        state_dict=state,
        meta=dict(epoch=1, iter=3, cfg="", dataset_meta=dict(classes=CLASSES)),
        optimizer={},
        param_schedulers=[dict(last_step=3)] * len(cfg.param_scheduler),
    )
    torch.save(content, tmp_path / "epoch_1.pth")
    cfg.load_from = str(tmp_path / "epoch_1.pth")
    assert "of `init_cfg` does not exist" in sentence(cfg, ("train",), contents=False)
    cfg.resume = True
    check(cfg, ("train", "val"), contents=False)
    cfg.load_from, cfg.work_dir = None, str(tmp_path)  # the latest of the work dir
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_1.pth"))
    check(cfg, ("train", "val"), contents=False)
