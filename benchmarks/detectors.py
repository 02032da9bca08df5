"""Full-size detectors of the papers' configs and MMDetection's own, ready to train an iteration.

No data set is needed: two made-up images with two objects each, random weights.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope
from mmengine.structures import InstanceData

import normfix_mm.detection  # noqa: F401  registers layers, heads and hooks
from normfix_mm import reset_gains

CONFIGS = Path(__file__).parents[1] / "configs"
STOCK = {
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "faster_rcnn": "faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py",
    "cascade_rcnn": "cascade_rcnn/cascade-rcnn_r50_fpn_20e_coco.py",
    "mask_rcnn": "mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py",
}
OURS = (
    "retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco",
    "retinanet/retinanet_r50_fpn_wn_8xb2-90k_coco",
    "faster_rcnn/faster-rcnn_r50_fpn_fixnorm_8xb2-24e_coco",
    "cascade_rcnn/cascade-rcnn_r50_fpn_ws-eps_8xb2-20e_coco",
    "mask_rcnn/mask-rcnn_r50_fpn_fixnorm_8xb2-24e_coco",
)


def ours(name: str) -> Config:
    """A config of this project by its name below configs/."""
    return Config.fromfile(CONFIGS / f"{name}.py")


def stock(name: str) -> Config:
    """MMDetection's config of the same detector."""
    return get_config(f"mmdet::{STOCK[name.partition('/')[0]]}")


def pictures(width: int, height: int) -> dict:
    """Two images with two objects each."""
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
        for _ in range(2)
    ]
    samples = []
    for _ in inputs:
        sample = DetDataSample()
        shape = (height, width)
        sample.set_metainfo(dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0)))
        boxes = torch.tensor([[0.1, 0.2, 0.7, 0.8], [0.5, 0.4, 0.9, 0.9]])
        boxes = boxes * torch.tensor([width, height, width, height])
        masks = BitmapMasks(np.ones((2, height, width), np.uint8), height, width)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 7]), masks=masks)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def iteration(
    cfg: Config,
    size: tuple[int, int],
    device: str = "cpu",
    amp: str | None = None,
    foreach: bool = False,
) -> Callable[[], object]:
    """A function that trains one iteration of a config, with its step hooks.

    Args:
        size: width and height.
        amp: 'float16' or 'bfloat16' for mixed precision.
        foreach: steps all parameters at once, as torch does on a GPU.
    """
    torch.manual_seed(0)
    MMLogger.get_instance("mmengine", log_level="ERROR")
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(copy.deepcopy(cfg.model)).train().to(device)
        reset_gains(model)
        optim_wrapper = copy.deepcopy(cfg.optim_wrapper)
        if amp:
            optim_wrapper.update(type="AmpOptimWrapper", dtype=amp, loss_scale="dynamic")
        if foreach:
            optim_wrapper.optimizer.update(foreach=True, fused=None)
        wrapper = build_optim_wrapper(model, optim_wrapper)
        for hook in cfg.get("custom_hooks", []):
            if hook["type"] == "NormFixHook":
                HOOKS.build(copy.deepcopy(hook)).attach(model, wrapper.optimizer)
    for group in wrapper.optimizer.param_groups:
        group["lr"] = 1e-6  # random weights and the same two images again and again
    batch = pictures(*size)
    return lambda: model.train_step(copy.deepcopy(batch), wrapper)
