"""Faster R-CNN R50-FPN on COCO with FixNorm.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/faster_rcnn/faster-rcnn_r50_fpn_fixnorm_8xb2-24e_coco.py 8
Expected: not in the paper, and not trained here.
Run time: not measured.
Source: FixNorm, Algorithm 1 (convolutions and classifiers as one vector, no weight decay at all),
eqs. 10 and 29. The paper trains RetinaNet only; here its rules are carried over:
- Classifiers: rpn_cls is FixNorm-Conv, fc_cls FixNorm-FC.
- Every other convolution and fully connected layer of pyramid and heads has no norm behind it and
  is weight-normalized with gain. So is the backbone, whose BN is fixed; pretrained weights keep
  their function. All these weights share the one joint norm.
- lr .02 and α 1 are starting points, to be tuned: lr in [.005, .1], α in .5, 1, 2, 4, 8, 16
  (`python tools/tune.py` with this config: Algorithm 4, in the cost of eleven trainings).
- The baseline beside it is plain; FixNorm's own Table 4 has weight normalization in its baselines.
Everything else is the baseline's, see its header.
"""

_base_ = "./faster-rcnn_r50_fpn_baseline_8xb2-24e_coco.py"

model = dict(
    backbone=dict(type="NormalizedResNet", normalize=dict(form="WN", gain=True)),
    neck=dict(conv_cfg=dict(type="WNConv2d", gain=True)),
    rpn_head=dict(type="FixNormRPNHead", alpha=1.0),
    roi_head=dict(
        bbox_head=dict(type="FixNormShared2FCBBoxHead", alpha=1.0),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=0.02, weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
