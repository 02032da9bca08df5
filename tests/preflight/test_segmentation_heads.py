"""Heads that fit neither the classes' losses nor the crops are found before training."""

import copy
import warnings
from pathlib import Path

import mmseg
import pytest
from helpers.small_segmenters import config
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from normfix_mm.errors import BadInput
from normfix_mm.preflight.segmentation_heads import check_crop, check_losses

pytestmark = pytest.mark.slow


@pytest.fixture
def cfg(tmp_path) -> Config:
    return config("psp-fixnorm", tmp_path, tmp_path / "run")


def check(cfg) -> None:
    with DefaultScope.overwrite_default_scope("mmseg"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MODELS.build(copy.deepcopy(cfg.model))
        check_losses(model)
        check_crop(cfg, model)


def sentence(cfg) -> str:
    with pytest.raises(BadInput) as caught:
        check(cfg)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_a_good_config_passes(cfg):
    check(cfg)


def test_class_weights_for_other_classes(cfg):
    for loss in ("OHEMWeightedCrossEntropyLoss", "CrossEntropyLoss"):
        cfg.model.decode_head.loss_decode = dict(type=loss, class_weight=[1.0] * 19)
        text = sentence(cfg)
        assert "model.decode_head has 11 classes, but its loss has 19 class weights" in text
        assert "model.decode_head.loss_decode.class_weight one number for each class" in text


def test_a_softmax_over_one_output(cfg):
    cfg.model.auxiliary_head = None
    head = cfg.model.decode_head
    head.update(num_classes=2, out_channels=1, threshold=0.3)
    for loss in ("WeightedCrossEntropyLoss", "CrossEntropyLoss"):
        head.loss_decode = dict(type=loss)
        assert f"of which a softmax is always 1: its {loss} learns nothing" in sentence(cfg)
    head.loss_decode = dict(type="CrossEntropyLoss", use_sigmoid=True)
    check(cfg)


def test_a_norm_over_one_pixel_of_one_image(cfg):
    cfg.model.decode_head.pool_scales = (1, 2)
    check(cfg)
    cfg.train_dataloader.batch_size = 1
    text = sentence(cfg)
    assert "on one image at a time (Expected more than 1 value per channel" in text
    assert text.endswith("set train_dataloader.batch_size to 2 or more.")
    cfg.sync_bn = "torch"  # over the pixels of all processes
    check(cfg)


def test_images_of_four_channels(cfg):
    cfg.model.backbone.in_channels = 4
    check(cfg)


def test_crops_larger_than_what_they_are_padded_to(cfg):
    crop = dict(type="mmseg.RandomCrop", crop_size=(96, 120))
    cfg.train_dataloader.dataset.pipeline.insert(2, crop)
    assert "crops of 96x120 pixels do not fit in the 90x120" in sentence(cfg)
    cfg.train_dataloader.dataset.pipeline[2].update(crop_size=(64, 64))
    check(cfg)


def test_the_crop_is_what_counts_where_nothing_is_padded(cfg):
    """A U-Net halves the image four times and doubles it as often."""
    cfg.model.backbone = dict(type="UNet", in_channels=3, base_channels=4)
    cfg.model.decode_head.update(in_channels=4, in_index=4)
    cfg.model.auxiliary_head.update(in_channels=8, in_index=3)
    cfg.model.data_preprocessor.size = None
    cfg.model.data_preprocessor.size_divisor = 1
    check(cfg)
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type="RandomCrop", crop_size=(48, 40)))
    assert "cannot be trained on crops of 48x40 pixels" in sentence(cfg)


@pytest.mark.parametrize(
    "name",
    [
        "ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024",
        "knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512",
        "mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512",  # positions of one size
        "mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024",  # meta tensors have no item()
        "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes",
        "point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024",
        "psanet/psanet_r50-d8_4xb2-40k_cityscapes-512x1024",  # nor has its operator a meta form
    ],
)
def test_stock_models_of_every_kind_pass(name):
    # Not mmengine's get_config(), which would install upstream's package over that of OneDL.
    cfg = Config.fromfile(Path(mmseg.__file__).parent / ".mim/configs" / f"{name}.py")
    cfg.model.pop("pretrained", None)
    check(cfg)
