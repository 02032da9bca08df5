"""RetinaNet-R18 from scratch on any small COCO-format folder: plain layers, ordinary weight decay.

Command (path and classes are given once; the classes default to those in the annotations):
    python tools/train_folder.py configs/coco_folder/retinanet_r18_fpn_baseline_1xb8-8e.py FOLDER
    python tools/compare.py FOLDER     # this against WS + ε-shift and FixNorm, rates tuned alike
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json.
Run time: 0.6 s an iteration of 8 images at 320×240 on two CPU cores.
Expected result: README, "On real images".
The learning rate is the one the comparison on the blood cells chose.
"""

_base_ = ["mmdet::_base_/models/retinanet_r50_fpn.py", "mmdet::_base_/default_runtime.py"]
custom_imports = dict(imports=["normfix_mm.detection"], allow_failed_imports=False)

# Data: root, class names and files are filled in by normfix_mm.datasets.use_coco_folder.
scale = (320, 240)
load = [dict(type="LoadImageFromFile"), dict(type="Resize", scale=scale, keep_ratio=True)]
annotate = dict(type="LoadAnnotations", with_bbox=True)
train_pipeline = [
    load[0],
    annotate,
    load[1],
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    *load,
    annotate,
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset", filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CocoDataset", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator

# Model: every BN trains; thin pyramid and subnets. num_classes comes from the data.
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=0.11, loss_weight=1.0),
        # RetinaNet's std .01 is made for 256 channels: at 64 it lets so little gradient through
        # that eight epochs end before the classifier has left its prior. .06 is He's for 64.
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.06,
            override=[
                dict(type="Normal", name="retina_cls", std=0.03, bias_prob=0.01),
                dict(type="Normal", name="retina_reg", std=0.02),
            ],
        ),
    ),
)

# Schedule: warm-up over the first 26 iterations, a tenth of the rate from epoch 7 on.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=8, val_interval=8)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=26),
    dict(type="MultiStepLR", by_epoch=True, milestones=[6], gamma=0.1),
]
custom_hooks = [dict(type="WeightTableHook"), dict(type="ReproducibleHook")]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
auto_scale_lr = dict(enable=False, base_batch_size=8)
