"""Cascade R-CNN R101-FPN on COCO: backbone with WS and the ε-shifted regularizer.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/cascade_rcnn/cascade-rcnn_r101_fpn_ws-eps_8xb2-20e_coco.py 8
Expected: 43.5 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 43.5, AP.5 61.7, AP.75 47.5, APs 23.9, APm 47.1, APl 58.4, ARs 33.4, ARm 60.2, ARl 72.4
Run time: not measured.
Before training: download the authors' best WS-ResNet-101 (implus/PytorchInsight) and make it a file
that MMDetection reads; plain weights fit every key and are wrong.
    python tools/convert_checkpoint.py DOWNLOADED checkpoints/ws_resnet101.pth --form WS
Source: ε-shifted regularizer, section 6.1 and Table VII; see the R-50's header.
ε is 1e-3 here too; the authors' list of models has 1e-6 for the R-101 they pretrained.
"""

_base_ = "./cascade-rcnn_r50_fpn_ws-eps_8xb2-20e_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="checkpoints/ws_resnet101.pth")))
