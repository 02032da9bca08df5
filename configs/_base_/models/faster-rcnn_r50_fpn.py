"""Faster R-CNN R50-FPN as the ε-shift paper's code, MMDetection 1.x, has it.

Two changes to MMDetection 3's: the box losses are smooth L1 (β 1/9 in the RPN, 1 in the RoI head),
and BN's γ and β are fixed, as its statistics are (so section 6.1; the authors' code does not do so,
its ResNet has frozen=False).
"""

_base_ = "mmdet::_base_/models/faster-rcnn_r50_fpn.py"

model = dict(
    backbone=dict(norm_cfg=dict(type="BN", requires_grad=False)),
    rpn_head=dict(
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.0)
    ),
    roi_head=dict(
        bbox_head=dict(
            loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
        )
    ),
)
