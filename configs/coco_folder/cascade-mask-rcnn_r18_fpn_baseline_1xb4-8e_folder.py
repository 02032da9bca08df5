"""Cascade Mask R-CNN on the same thin ResNet-18, data and schedule as the Mask R-CNN beside it.

Command:
    python tools/train_folder.py \
        configs/coco_folder/cascade-mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py FOLDER
Run time: not measured.
Expected: 0.463 mask AP on the nuclei of docs/real_images.md, one seed.
Source: MMDetection's Cascade Mask R-CNN, from which stages, losses and thresholds are; no paper has
this. Plain layers, ordinary weight decay. The three stages of the mask head are alike.
"""

_base_ = "./mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py"

model = dict(
    type="CascadeRCNN",
    roi_head=dict(
        type="CascadeRoIHead",
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                _base_.model.roi_head.bbox_head,
                bbox_coder=dict(
                    type="DeltaXYWHBBoxCoder",
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=[0.1 / stage, 0.1 / stage, 0.2 / stage, 0.2 / stage],
                ),
                reg_class_agnostic=True,
                loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
            )
            for stage in (1, 2, 3)
        ],
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                _base_.model.train_cfg.rcnn,
                assigner=dict(
                    type="MaxIoUAssigner",
                    pos_iou_thr=overlap,
                    neg_iou_thr=overlap,
                    min_pos_iou=overlap,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
            )
            for overlap in (0.5, 0.6, 0.7)
        ]
    ),
)
