"""Small detectors of the papers' kinds on real images, with weights as training leaves them."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

import normfix_mm.detection  # noqa: F401  registers layers, hooks and heads
from normfix_mm.datasets.coco_folder import CocoFolder
from normfix_mm.layers.gain import settle_gains

WIDTH, SIZE = 16, (128, 96)
# Below the norm that every classifier starts with, so that all caps bite.
ALPHA = 0.05
BASES = {
    "retinanet-fixnorm": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "retinanet-ws": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "mask-fixnorm": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "cascade-fixnorm": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
}
DATA = {"mask-fixnorm": "nuclei", "cascade-fixnorm": "nuclei"}


def stock(name: str, data: Path) -> Config:
    """MMDetection's own config of the kind, made small.

    Args:
        name: One of `BASES`.
        data: Folder that holds bccd/ and nuclei/.
    """
    cfg = Config.fromstring(f"_base_ = 'mmdet::{BASES[name]}'\n", ".py")
    model = cfg.model
    # The backbone's init_cfg, ImageNet's weights, stays: building must not ask for them.
    model.backbone.update(depth=18, base_channels=WIDTH, stem_channels=WIDTH, frozen_stages=-1)
    model.neck.update(in_channels=[WIDTH << n for n in range(4)], out_channels=WIDTH)
    if "bbox_head" in model:
        model.bbox_head.update(in_channels=WIDTH, feat_channels=WIDTH, stacked_convs=1)
    else:
        roi = model.roi_head
        model.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
        for head in bbox_heads(cfg):
            head.update(in_channels=WIDTH, fc_out_channels=2 * WIDTH)
        for extractor in (roi.bbox_roi_extractor, roi.get("mask_roi_extractor", {})):
            extractor.update(out_channels=WIDTH)
        if "mask_head" in roi:
            roi.mask_head.update(num_convs=1, in_channels=WIDTH, conv_out_channels=WIDTH)
    model.test_cfg.get("rcnn", model.test_cfg).update(score_thr=0.0, max_per_img=30)
    CocoFolder(data / DATA.get(name, "bccd")).use(cfg)
    for phase in ("train", "val", "test"):
        cfg[f"{phase}_dataloader"].update(batch_size=2, num_workers=0, persistent_workers=False)
        for step in cfg[f"{phase}_dataloader"].dataset.pipeline:
            if step.type == "Resize":
                step.scale = SIZE
    return cfg


def bbox_heads(cfg: Config) -> list:
    """The box heads of a two-stage detector, three for Cascade R-CNN."""
    heads = cfg.model.roi_head.bbox_head
    return heads if isinstance(heads, list) else [heads]


def config(name: str, data: Path) -> Config:
    """The same with our layers, hooks and optimizer in it."""
    cfg = stock(name, data)
    cfg.custom_imports = dict(imports=["normfix_mm.detection"], allow_failed_imports=False)
    model = cfg.model
    if name == "retinanet-ws":
        model.backbone.update(type="NormalizedResNet", normalize=dict(form="WS"))
        cfg.optim_wrapper.constructor = "EpsShiftOptimWrapperConstructor"
        cfg.optim_wrapper.paramwise_cfg = dict(eps_shift=dict(lam=1e-4), norm_decay_mult=0.0)
        cfg.custom_hooks = [dict(type="WeightTableHook")]
        return cfg
    cfg.optim_wrapper.optimizer.weight_decay = 0.0
    cfg.custom_hooks = [
        dict(type="NormFixHook", check="warn"),
        dict(type="EMAHook", momentum=0.5),
        dict(type="WeightTableHook"),
    ]
    model.backbone.update(type="NormalizedResNet", normalize=dict(form="WN", gain=True))
    model.neck.conv_cfg = dict(type="WNConv2d", gain=True)
    if name == "retinanet-fixnorm":
        model.bbox_head.update(type="FixNormRetinaHead", alpha=ALPHA / 2)
    else:
        model.rpn_head.update(type="FixNormRPNHead", alpha=ALPHA)
        for head in bbox_heads(cfg):
            head.update(type="FixNormShared2FCBBoxHead", alpha=ALPHA)
        if "mask_head" in model.roi_head:
            model.roi_head.mask_head.update(type="FixNormFCNMaskHead", alpha=ALPHA)
    return cfg


def first_image(name: str, data: Path) -> Path:
    """A validation image of the kind that the detector is for."""
    return min((data / DATA.get(name, "bccd") / "images/val").iterdir())


def trained_weights(cfg: Config) -> nn.Module:
    """The model as after training: gains apart from the norms, BN's statistics those of a batch."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(copy.deepcopy(cfg.model))
        dataset = DATASETS.build(copy.deepcopy(cfg.train_dataloader.dataset))
        batch = [dataset[index] for index in range(4)]
    settle_gains(model)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith(".g"):
                parameter.mul_(1 + torch.rand_like(parameter))
            elif name.endswith("bn1.weight"):
                parameter.uniform_(0.5, 1.5)
        for name in ("retina_cls", "retina_reg", "rpn_reg", "fc_reg"):
            # Boxes near their anchors, scores away from 0 and 1.
            for key in (key for key in parameters if key.endswith(f"{name}.weight")):
                gain = key.removesuffix("weight") + "g"
                parameters.get(gain, parameters[key]).mul_(0.1)
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.train().momentum = 1.0
        for item in batch:
            data = dict(inputs=[item["inputs"]], data_samples=[item["data_samples"]])
            model.extract_feat(model.data_preprocessor(data)["inputs"])
    return model.eval()


def save(cfg: Config, model: nn.Module, stem: Path) -> None:
    """Config and checkpoint as mmengine writes them, at ``stem`` with .py and .pth."""
    text = cfg.pretty_text
    stem.with_suffix(".py").write_text(text)
    meta = dict(cfg=text, dataset_meta=dict(cfg.train_dataloader.dataset.metainfo))
    optimizer = dict(state={}, param_groups=[dict(lr=0.1, params=[0])])
    content = dict(meta=meta, state_dict=model.state_dict(), optimizer=optimizer)
    torch.save(content, stem.with_suffix(".pth"))
