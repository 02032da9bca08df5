"""Cascade R-CNN R101-FPN on COCO: the baseline of the ε-shift paper's Table VII.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/cascade_rcnn/cascade-rcnn_r101_fpn_baseline_8xb2-20e_coco.py 8
Expected: 42.6 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 42.6, AP.5 60.9, AP.75 46.4, APs 23.7, APm 46.1, APl 56.9, ARs 34.5, ARm 59.8, ARl 72.0
Run time: not measured.
Source: ε-shifted regularizer, section 6.1 and Table VII; see the R-50's header.
"""

_base_ = "./cascade-rcnn_r50_fpn_baseline_8xb2-20e_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="torchvision://resnet101")))
