"""The same RetinaNet-R18 with FixNorm: no weight decay, one joint norm, bounded classifier gain.

Command:
    python tools/train_folder.py \
        configs/coco_folder/retinanet_r18_fpn_fixnorm_1xb8-8e_folder.py FOLDER
Run time: as the baseline's.
Expected: 0.273 ± 0.018 box AP on the blood cells (docs/real_images.md), three seeds.
Source: FixNorm, Algorithm 1 and eqs. 10 and 29, on a small detector; the paper has no such row.

The backbone's convolutions have a BN in training mode behind them and stay plain; pyramid, towers
and box predictor are weight-normalized with gain; retina_cls is FixNorm-Conv with α = 1.
"""

_base_ = "./retinanet_r18_fpn_baseline_1xb8-8e_folder.py"

model = dict(
    neck=dict(conv_cfg=dict(type="WNConv2d", gain=True)),
    bbox_head=dict(type="FixNormRetinaHead", alpha=1.0),
)
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
