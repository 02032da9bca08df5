"""The same Cascade Mask R-CNN with FixNorm: no weight decay, one joint norm, bounded gains.

Command:
    python tools/train_folder.py configs/coco_folder/cascade-mask-rcnn_r18_fpn_fixnorm_1xb4-8e.py \
        FOLDER
Every stage has FixNorm's classifier, otherwise as the Mask R-CNN's FixNorm config. The stages' heads
are written out again because a config replaces a list as a whole.
"""

_base_ = "./cascade-mask-rcnn_r18_fpn_baseline_1xb4-8e.py"

alpha = 4.0
model = dict(
    neck=dict(conv_cfg=dict(type="WNConv2d", gain=True)),
    rpn_head=dict(type="FixNormRPNHead", alpha=alpha),
    roi_head=dict(
        bbox_head=[
            dict(
                type="FixNormShared2FCBBoxHead",
                alpha=alpha,
                in_channels=64,
                fc_out_channels=256,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(
                    type="DeltaXYWHBBoxCoder",
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=[0.1 / stage, 0.1 / stage, 0.2 / stage, 0.2 / stage],
                ),
                reg_class_agnostic=True,
                loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
            )
            for stage in (1, 2, 3)
        ],
        mask_head=dict(type="FixNormFCNMaskHead", alpha=alpha),
    ),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [
    dict(type="NormFixHook", mode="joint", weights="conv+classifier"),
    dict(type="WeightTableHook"),
    dict(type="ReproducibleHook"),
]
