"""Small segmenters on real streets, trained for a few iterations by the real Runner."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

from helpers.small_folders import CAMVID
from mmengine.config import Config

import normfix_mm.segmentation  # noqa: F401  registers layers, hooks, heads and backbones

CLASSES = CAMVID
SIZE = (120, 90)  # of 480 x 360
BACKBONE = dict(
    type="ResNetV1c",
    depth=18,
    base_channels=8,
    stem_channels=8,
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
    contract_dilation=False,
    norm_cfg=dict(type="BN"),
)
HEAD = dict(channels=8, num_classes=len(CLASSES), norm_cfg=dict(type="BN"), align_corners=True)
KINDS = {
    "psp-fixnorm": dict(
        backbone={},
        decode_head=dict(
            type="FixNormPSPHead",
            alpha=0.02,
            pool_scales=(2, 3),
            loss_decode=dict(
                type="OHEMWeightedCrossEntropyLoss",
                class_weight=[1.0, 2.0] + 9 * [1.0],
                min_kept=1000,
            ),
        ),
        auxiliary_head=dict(type="FixNormFCNHead", alpha=1.0, num_convs=1, concat_input=False),
    ),
    "fcn-fixnorm": dict(  # norms that are not trained: every layer is normalized instead
        backbone=dict(type="NormalizedResNetV1c", norm_eval=True),
        decode_head=dict(type="FixNormFCNHead", alpha=0.02, num_convs=1, norm_cfg=None),
        auxiliary_head=None,
    ),
    "fcn-ws": dict(
        backbone=dict(type="NormalizedResNetV1c", normalize=dict(form="WS")),
        decode_head=dict(type="FCNHead", num_convs=1),
        auxiliary_head=None,
    ),
}
_NUMBER = itertools.count()


def config(name: str, data: Path, work_dir: Path, images: int = 4) -> Config:
    """A config of one of `KINDS`.

    Args:
        data: Folder that holds camvid/.
    """
    kind = copy.deepcopy(KINDS[name])
    model = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(
            type="SegDataPreProcessor",
            mean=[103.0, 106.0, 104.0],
            std=[78.0, 79.0, 77.0],
            bgr_to_rgb=True,
            pad_val=0,
            seg_pad_val=255,
            size=SIZE[::-1],
        ),
        backbone=BACKBONE | kind["backbone"],
        decode_head=HEAD | dict(in_channels=64, in_index=3) | kind["decode_head"],
        auxiliary_head=kind["auxiliary_head"]
        and HEAD | dict(in_channels=32, in_index=2) | kind["auxiliary_head"],
        test_cfg=dict(mode="whole"),
    )
    load, resize = dict(type="LoadImageFromFile"), dict(type="Resize", scale=SIZE)
    annotate, pack = dict(type="LoadAnnotations"), dict(type="PackSegInputs")
    test_pipeline = [load, resize, annotate, pack]

    def loader(part: str, shuffle: bool) -> dict:
        return dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=shuffle),
            dataset=dict(
                type="BaseSegDataset",
                data_root=str(data / "camvid"),
                data_prefix=dict(img_path=f"images/{part}", seg_map_path=f"labels/{part}"),
                metainfo=dict(classes=CLASSES),
                indices=images,
                pipeline=[load, annotate, resize, pack] if shuffle else test_pipeline,
            ),
        )

    wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1, momentum=0.9))
    hooks = [dict(type="NormFixHook"), dict(type="WeightTableHook")]
    if name == "fcn-ws":
        wrapper["constructor"] = "EpsShiftOptimWrapperConstructor"
        wrapper["paramwise_cfg"] = dict(eps_shift=dict(lam=1e-4))
        hooks = hooks[1:]
    return Config(
        dict(
            default_scope="mmseg",
            custom_imports=dict(imports=["normfix_mm.segmentation"], allow_failed_imports=False),
            model=model,
            test_pipeline=test_pipeline,
            train_dataloader=loader("train", shuffle=True),
            val_dataloader=loader("val", shuffle=False),
            test_dataloader=loader("val", shuffle=False),
            val_evaluator=dict(type="ClassIoUMetric", iou_metrics=["mIoU"]),
            test_evaluator=dict(type="ClassIoUMetric", iou_metrics=["mIoU"]),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=3, val_interval=3),
            val_cfg=dict(type="ValLoop"),
            test_cfg=dict(type="TestLoop"),
            optim_wrapper=wrapper,
            custom_hooks=hooks,
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1),
                checkpoint=dict(type="CheckpointHook", interval=3, by_epoch=False),
            ),
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=1),
            work_dir=str(work_dir),
            # Runs of one second would share mmengine's global log, which goes by the time.
            experiment_name=f"segmenter{next(_NUMBER)}",
        )
    )
