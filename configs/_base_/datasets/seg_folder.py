"""A small folder of images and label images as the data of a run from scratch.

Root, class names and file endings are filled in by normfix_mm.datasets.seg_folder. Training and
prediction are at half of 480x360; IoU is measured on the labels at their full size.
"""

scale = (240, 180)
crop_size = (180, 240)
load = dict(type="LoadImageFromFile")
annotate = dict(type="LoadAnnotations")
train_pipeline = [
    load,
    annotate,
    dict(type="RandomResize", scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=1.0),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    load,
    dict(type="Resize", scale=scale, keep_ratio=True),
    annotate,
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="BaseSegDataset", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="BaseSegDataset", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ClassIoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
