"""What the segmentation demo's two runs share: data, model, schedule. Not a config to train itself.

An OCNet (Base-OC) of small width on a dilated ResNet-18, from scratch, on the digits of
``normfix_mm.datasets.digits`` as label maps. NOT TUNED YET: no run has been finished.

What was tried for FixNorm (seed 0; each stopped early; mIoU on val):
- pictures twice enlarged, crops of 128, width 16, batch 8, rate .03, background weight .3: ink is
  told from background within 80 iterations, digits hardly from each other: .093 after 160
  iterations, .119 after 320. Rate .12: the same loss after 120 iterations (.998 and 1.000).
- whole pictures, width 24, batch 4, rate .03: .121 after 320 iterations.
- the same with rate .1 and background weight .2, as below: not evaluated yet.
"""

default_scope = "mmseg"
custom_imports = dict(
    imports=["normfix_mm.segmentation", "normfix_mm.report"], allow_failed_imports=False
)

# Data: made by tools/make_digits.py. No flips: a mirrored digit is another shape.
data_root = "data/digits/"
metainfo = dict(classes=(*"0123456789", "background"))
crop_size = (128, 128)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="BaseSegDataset",
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path="images/train", seg_map_path="labels/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="BaseSegDataset",
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path="images/val", seg_map_path="labels/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

# Model: a quarter of OCNet's width or less. Background covers most pixels and weighs less.
norm_cfg = dict(type="BN")
loss = dict(type="WeightedCrossEntropyLoss", class_weight=[1.0] * 10 + [0.2])
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[128.0] * 3,
        std=[64.0] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
    ),
    backbone=dict(
        type="DilatedResNetV1c",
        depth=18,
        base_channels=24,
        stem_channels=24,
        norm_cfg=norm_cfg,
        # He's, but 5 times shorter: see retinanet_r18_fpn_digits.py.
        init_cfg=[
            dict(type="Kaiming", layer="Conv2d", a=5, nonlinearity="leaky_relu"),
            dict(type="Constant", layer="BatchNorm2d", val=1),
        ],
    ),
    decode_head=dict(
        type="OCHead",
        in_channels=192,
        in_index=3,
        channels=64,
        context="base",
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=loss,
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=96,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.05,
        num_classes=11,
        norm_cfg=norm_cfg,
        act_cfg=dict(type="LeakyReLU", negative_slope=0.01),
        align_corners=True,
        loss_decode=loss | dict(loss_weight=0.4),
    ),
    test_cfg=dict(mode="whole"),
)

# Schedule: poly to 0, as OCNet's.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=8, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-4),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=150),
    dict(
        type="PolyLR",
        power=0.9,
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=8,
        eta_min=0,
    ),
]
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0)
