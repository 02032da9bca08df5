"""Mask R-CNN with a thin ResNet-18 from scratch on any small COCO-format folder with masks.

Command (path and classes are given once; the classes default to those in the annotations):
    python tools/train_folder.py \
        configs/coco_folder/mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py FOLDER
    python tools/compare.py FOLDER --model mask-rcnn_r18_fpn   # against WS + ε-shift and FixNorm
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json.
Run time: not measured.
Expected: 0.436 ± 0.015 mask AP on the nuclei of docs/real_images.md, three seeds.
Source: MMDetection's Mask R-CNN, made thin; no paper has this.
Plain layers, ordinary weight decay. Images are enlarged to 320 pixels; anchors from 16 pixels on.
"""

_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_folder.py",
    "../_base_/schedules/schedule_8e.py",
    "../_base_/mmdet_runtime_small.py",
]

scale = (320, 320)
resize = dict(type="Resize", scale=scale, keep_ratio=True)
annotate = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
train_pipeline = [_base_.load, annotate, resize, _base_.flip, dict(type="PackDetInputs")]
test_pipeline = [_base_.load, resize, annotate, _base_.pack]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=["bbox", "segm"])
test_evaluator = val_evaluator

# Every BN trains; thin backbone, pyramid and heads. num_classes comes from the data.
model = dict(
    backbone=dict(depth=18, base_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4]),
        # MMDetection's std .01 is made for 256 channels; .06 is He's for 64.
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.06,
            override=[
                dict(type="Normal", name="rpn_cls", std=0.03),
                dict(type="Normal", name="rpn_reg", std=0.02),
            ],
        ),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=500), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=500), rcnn=dict(max_per_img=200)),
)

# Warm-up over the first 40 iterations, a tenth of the rate from epoch 7 on.
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=40),
    _base_.param_scheduler[1],
]
auto_scale_lr = dict(base_batch_size=4)
