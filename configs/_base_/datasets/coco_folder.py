"""A small COCO-format folder as the data of a run from scratch, boxes only.

Root, class names and files are filled in by normfix_mm.datasets.coco_folder. Pipelines are made
of the pieces below, which other configs take up with ``_base_.load`` and so on.
"""

scale = (320, 240)
load = dict(type="LoadImageFromFile")
resize = dict(type="Resize", scale=scale, keep_ratio=True)
flip = dict(type="RandomFlip", prob=0.5)
annotate = dict(type="LoadAnnotations", with_bbox=True)
pack = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
)
train_pipeline = [load, annotate, resize, flip, dict(type="PackDetInputs")]
test_pipeline = [load, resize, annotate, pack]
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
