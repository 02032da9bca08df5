"""A small folder of images by class as the data of a run from scratch, pictures of 64 pixels.

Root, class names and lists are filled in by normfix_mm.datasets.class_folder. Pictures are squeezed
before they are cropped, as they are in validation: of a long one RandomResizedCrop finds no piece
of about a square, and would always take the middle.
"""

size = 64
load = dict(type="LoadImageFromFile")
pack = dict(type="PackInputs")
train_pipeline = [
    load,
    dict(type="Resize", scale=(2 * size, 2 * size)),
    dict(type="RandomResizedCrop", scale=size, crop_ratio_range=(0.4, 1.0)),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    pack,
]
test_pipeline = [load, dict(type="Resize", scale=(size, size)), pack]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="CustomDataset", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CustomDataset", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ClassAccuracy", topk=(1, 5))
test_evaluator = val_evaluator
