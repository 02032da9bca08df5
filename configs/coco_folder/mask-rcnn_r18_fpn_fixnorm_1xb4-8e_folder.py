"""The same Mask R-CNN with FixNorm: no weight decay, one joint norm, bounded classifier gains.

Command:
    python tools/train_folder.py \
        configs/coco_folder/mask-rcnn_r18_fpn_fixnorm_1xb4-8e_folder.py FOLDER
Run time: not measured.
Expected: 0.420 ± 0.020 mask AP on the nuclei (docs/real_images.md), three seeds.
Source: FixNorm, Algorithm 1 and eqs. 10 and 29, on a small detector; the paper has no such row.

The backbone's convolutions have a BN in training mode behind them and stay plain; pyramid and heads
are weight-normalized with gain; the classifiers of RPN, box and mask head are FixNorm's. With one
class, α = 1 would cap the mask head's gain at 1, where it starts at 10 to 13. α = 4 gives caps of 4
to 7, in the range of the paper's best ones (4.4 on Cityscapes, 13.4 on COCO).
"""

_base_ = "./mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py"

alpha = 4.0
model = dict(
    neck=dict(conv_cfg=dict(type="WNConv2d", gain=True)),
    rpn_head=dict(type="FixNormRPNHead", alpha=alpha),
    roi_head=dict(
        bbox_head=dict(type="FixNormShared2FCBBoxHead", alpha=alpha),
        mask_head=dict(type="FixNormFCNMaskHead", alpha=alpha),
    ),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
