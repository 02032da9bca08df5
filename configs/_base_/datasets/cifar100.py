"""CIFAR-100's 50 000 training and 10 000 test images: shifted, flipped, and cut out.

data/cifar100/cifar-100-python.tar.gz, fetched by MMPretrain if it is not there
"""

data_preprocessor = dict(
    num_classes=100, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418], to_rgb=False
)
train_pipeline = [
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    # DeVries and Taylor's size for CIFAR-100, filled with the mean.
    dict(type="Cutout", shape=8, pad_val=(129, 124, 112), prob=1.0),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CIFAR100", data_root="data/cifar100", split="train", pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CIFAR100",
        data_root="data/cifar100",
        split="test",
        pipeline=[dict(type="PackInputs")],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_evaluator = val_evaluator
