"""Cityscapes as OCNet trains on it: 769×769 crops at 17 scales, flips; validation on whole images.

The folder is prepared and checked by ``python tools/prepare_cityscapes.py data/cityscapes``; for
another one, in every config: ``--cfg-options train_dataloader.dataset.data_root=FOLDER`` and the
same of val_dataloader and test_dataloader.

Two evaluations on a test: MMSegmentation's IoU, a line for each class, and the benchmark's own by
cityscapesScripts; during training the first alone.
"""

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    # 0.5, 0.6 ... 2.1, each as likely as the others, in the authors' code.
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="Resize", scale_factor=tenths / 10, keep_ratio=True)]
            for tenths in range(5, 22)
        ],
    ),
    dict(type="RandomCrop", crop_size=(769, 769)),  # cat_max_ratio=1: any crop
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
# Several scales and flips, for `tools/test.py --tta`.
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale_factor=scale, keep_ratio=True)
                for scale in (0.75, 1.0, 1.25)
            ],
            [dict(type="RandomFlip", prob=prob) for prob in (0.0, 1.0)],
            [dict(type="LoadAnnotations")],
            [dict(type="PackSegInputs")],
        ],
    ),
]
tta_model = dict(type="SegTTAModel")

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CityscapesDataset",
        data_root="data/cityscapes",
        data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CityscapesDataset",
        data_root="data/cityscapes",
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ClassIoUMetric", iou_metrics=["mIoU"])
test_evaluator = [val_evaluator, dict(type="CityscapesOfficialMetric")]
