"""The digits of the demo as a segmentation set, made by tools/make_digits.py."""

_base_ = "./seg_folder.py"

data_root = "data/digits/"
classes = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "background")
load = dict(type="LoadImageFromFile")
annotate = dict(type="LoadAnnotations")
pack = dict(type="PackSegInputs")
shift = dict(type="RandomCrop", crop_size=(112, 112), cat_max_ratio=1.0)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path="images/train", seg_map_path="labels/train"),
        metainfo=dict(classes=classes),
        pipeline=[load, annotate, shift, pack],
    ),
)
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path="images/val", seg_map_path="labels/val"),
        metainfo=dict(classes=classes),
        pipeline=[load, annotate, pack],
    ),
)
test_dataloader = val_dataloader
