"""Cascade R-CNN R50-FPN on COCO: backbone with weight standardization.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/cascade_rcnn/cascade-rcnn_r50_fpn_ws_8xb2-20e_coco.py 8
Expected: 41.6 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 41.6, AP.5 60.1, AP.75 45.2, APs 23.4, APm 44.7, APl 55.6, ARs 34.2, ARm 58.2, ARl 71.0
Run time: not measured.
Before training: download the authors' best WS-ResNet-50 (implus/PytorchInsight) and make it a file
that MMDetection reads; plain weights fit every key and are wrong.
    python tools/convert_checkpoint.py DOWNLOADED checkpoints/ws_resnet50.pth --form WS
Source: ε-shifted regularizer, section 6.1 and Table VII.

What the paper leaves open, and our choice (the rest is in the baseline's header):
- What is standardized: the backbone, as the table's "WS-ResNet-50" says. The pyramid and the heads
  have no norm behind their convolutions here and stay plain.
- Which weights: the best pretrained ones, says the text, which we take to be the authors' ResNets
  trained with ε (76.86 on ImageNet, R-101 78.29) for both WS rows.
"""

_base_ = "./cascade-rcnn_r50_fpn_baseline_8xb2-20e_coco.py"

model = dict(
    backbone=dict(
        type="NormalizedResNet",
        normalize=dict(form="WS"),
        init_cfg=dict(checkpoint="checkpoints/ws_resnet50.pth"),
    )
)
