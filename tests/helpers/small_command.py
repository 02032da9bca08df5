"""The paper's RetinaNet config with a tiny model on toy data, as a file for the commands."""

from pathlib import Path

from helpers.toy_coco import toy_options
from mmdet.datasets import CocoDataset
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco.py"
CLASSES = CocoDataset.METAINFO["classes"]
SMALL = """
_base_ = {base!r}
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
    bbox_head=dict(in_channels=8, feat_channels=8, stacked_convs=1),
    test_cfg=dict(score_thr=0.0, max_per_img=3))
tta_model = dict(tta_cfg=dict(max_per_img=3))
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1))
"""


def write_config(file: Path, data: Path, **changes) -> Path:
    """Write the config for a folder of `toy_coco`."""
    cfg = Config.fromstring(SMALL.format(base=str(CONFIG)), ".py")
    cfg.merge_from_dict(toy_options(data) | changes)
    cfg.pop("tta_pipeline")  # of up to 2000 pixels; without it our command takes flips
    cfg.dump(file)
    return file
