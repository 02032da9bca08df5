"""Cascade R-CNN R101-FPN on COCO with FixNorm.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/cascade_rcnn/cascade-rcnn_r101_fpn_fixnorm_8xb2-20e_coco.py 8
Expected: not in the paper, and not trained here.
Run time: not measured.
Source: FixNorm, Algorithm 1 and eqs. 10 and 29, carried over as the R-50's header says.
"""

_base_ = "./cascade-rcnn_r50_fpn_fixnorm_8xb2-20e_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="torchvision://resnet101")))
