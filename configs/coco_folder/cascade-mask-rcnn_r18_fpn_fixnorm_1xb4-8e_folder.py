"""The same Cascade Mask R-CNN with FixNorm: no weight decay, one joint norm, capped gains.

Command:
    python tools/train_folder.py \
        configs/coco_folder/cascade-mask-rcnn_r18_fpn_fixnorm_1xb4-8e_folder.py FOLDER
Run time: not measured.
Expected: 0.449 mask AP on the nuclei (docs/real_images.md), one seed.
Source: FixNorm, Algorithm 1 and eqs. 10 and 29, on a small detector; the paper has no such row.
Every stage has FixNorm's classifier, otherwise as the Mask R-CNN's FixNorm config.
"""

_base_ = "./cascade-mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py"

alpha = 4.0
model = dict(
    neck=dict(conv_cfg=dict(type="WNConv2d", gain=True)),
    rpn_head=dict(type="FixNormRPNHead", alpha=alpha),
    roi_head=dict(
        # A list in a base cannot be changed in place: made anew of the baseline's three heads.
        bbox_head=[
            dict(head, type="FixNormShared2FCBBoxHead", alpha=alpha)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(type="FixNormFCNMaskHead", alpha=alpha),
    ),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
