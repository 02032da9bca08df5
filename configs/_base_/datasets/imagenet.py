"""ImageNet's 1.28 million training and 50 000 validation images, crops of 224.

data/imagenet/{train,val}/nXXXXXXXX/*.JPEG
"""

data_preprocessor = dict(
    num_classes=1000, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
load = dict(type="LoadImageFromFile")
flip = dict(type="RandomFlip", prob=0.5, direction="horizontal")
pack = dict(type="PackInputs")
train_pipeline = [load, dict(type="RandomResizedCrop", scale=224), flip, pack]
test_pipeline = [
    load,
    dict(type="ResizeEdge", scale=256, edge="short"),
    dict(type="CenterCrop", crop_size=224),
    pack,
]
train_dataloader = dict(
    batch_size=32,
    num_workers=5,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="ImageNet", data_root="data/imagenet", split="train", pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=5,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ImageNet", data_root="data/imagenet", split="val", pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_evaluator = val_evaluator
