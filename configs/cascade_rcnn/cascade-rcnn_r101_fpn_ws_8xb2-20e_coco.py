"""Cascade R-CNN R101-FPN on COCO: backbone with weight standardization.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/cascade_rcnn/cascade-rcnn_r101_fpn_ws_8xb2-20e_coco.py 8
Expected: 43.2 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 43.2, AP.5 61.6, AP.75 47.2, APs 24.8, APm 46.7, APl 57.8, ARs 34.8, ARm 59.7, ARl 72.2
Run time: not measured.
Before training: download the authors' best WS-ResNet-101 (implus/PytorchInsight) and make it a file
that MMDetection reads; plain weights fit every key and are wrong.
    python tools/convert_checkpoint.py DOWNLOADED checkpoints/ws_resnet101.pth --form WS
Source: ε-shifted regularizer, section 6.1 and Table VII; see the R-50's header.
"""

_base_ = "./cascade-rcnn_r50_fpn_ws_8xb2-20e_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="checkpoints/ws_resnet101.pth")))
