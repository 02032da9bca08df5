"""Faster R-CNN R101-FPN on COCO: backbone with WS and the ε-shifted regularizer.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/faster_rcnn/faster-rcnn_r101_fpn_ws-eps_8xb2-24e_coco.py 8
Expected: 39.8 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 39.8, AP.5 60.8, AP.75 43.5
Run time: not measured.
Before training: download the authors' best WS-ResNet-101 (implus/PytorchInsight) and make it a file
that MMDetection reads; plain weights fit every key and are wrong.
    python tools/convert_checkpoint.py DOWNLOADED checkpoints/ws_resnet101.pth --form WS
Source: ε-shifted regularizer, section 6.1 and Table VIII; see the R-50's header.
ε is 1e-3 here too; the authors' list of models has 1e-6 for the R-101 they pretrained.
"""

_base_ = "./faster-rcnn_r50_fpn_ws-eps_8xb2-24e_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="checkpoints/ws_resnet101.pth")))
