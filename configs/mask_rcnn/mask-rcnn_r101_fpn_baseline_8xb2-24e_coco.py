"""Mask R-CNN R101-FPN on COCO: the baseline of the ε-shift paper's Table VIII.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/mask_rcnn/mask-rcnn_r101_fpn_baseline_8xb2-24e_coco.py 8
Expected: 40.4 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 40.4, AP.5 61.6, AP.75 44.2
Run time: not measured.
Source: ε-shifted regularizer, section 6.1 and Table VIII; see the R-50's header.
"""

_base_ = "./mask-rcnn_r50_fpn_baseline_8xb2-24e_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="torchvision://resnet101")))
