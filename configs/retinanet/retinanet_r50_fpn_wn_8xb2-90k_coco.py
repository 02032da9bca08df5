"""RetinaNet R50-FPN on COCO: the baseline of FixNorm's Table 4, step schedule.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/retinanet/retinanet_r50_fpn_wn_8xb2-90k_coco.py 8
Expected: 36.5 box AP on val2017, the paper's figure; not trained here.
Run time: not measured.
Source: FixNorm, appendix A.4.3 and Table 4 (baseline, lr .01, weight decay 1e-4, 90k iterations,
rate divided by 10 at 60k and 80k, flips only, 800 pixels, focal loss .25 / 2, smooth L1).

Weight normalization sits on every convolution without a norm in *all four* rows ("for all the
models"). What the paper leaves open, and our choice:
- Backbone: frozen BN (MMDetection's norm_eval=True) with weight normalization and gain, which keeps
  the pretrained function; the same in all four rows, so that they differ in the training alone.
- beta of smooth L1: 0.1. "Standard" would be 1.0, but the paper's recipe (8 V100, batch 16, lr .01,
  90k, 60k / 80k) and its 36.5 are those of Detectron2's RetinaNet, which uses 0.1.
- Warm-up: MMDetection's, 500 iterations from 1/1000.
- Weight decay reaches gains, biases and BN's affine parameters too, as in MMDetection.
"""

_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "mmdet::retinanet/retinanet_tta.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_90k.py",
    "../_base_/mmdet_runtime.py",
]

model = dict(
    backbone=dict(type="NormalizedResNet", normalize=dict(form="WN", gain=True)),
    neck=dict(conv_cfg=dict(type="WNConv2d", gain=True)),
    bbox_head=dict(
        type="WNRetinaHead",
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=0.1, loss_weight=1.0),
    ),
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=10000))
log_processor = dict(by_epoch=False)
