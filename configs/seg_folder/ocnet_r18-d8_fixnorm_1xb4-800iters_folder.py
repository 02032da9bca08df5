"""The same OCNet with FixNorm: no weight decay, one joint norm, bounded classifier gains.

Command:
    python tools/train_folder.py \
        configs/seg_folder/ocnet_r18-d8_fixnorm_1xb4-800iters_folder.py FOLDER
Run time: as the baseline's.
Expected: 40.0 ± 1.9 mIoU on the streets (docs/real_images.md), at rate .2, three seeds.
Source: FixNorm, Algorithm 1 and eqs. 10 and 29, on a small segmenter; the paper has no such row.

Convolutions have a BN in training mode behind them and stay plain; OCNet's f_value and W have none
and are weight-normalized with gain; conv_seg is FixNorm-Conv with α = 1 in both heads.
"""

_base_ = "./ocnet_r18-d8_baseline_1xb4-800iters_folder.py"

model = dict(
    decode_head=dict(type="FixNormOCHead", alpha=1.0),
    auxiliary_head=dict(type="FixNormFCNHead", alpha=1.0),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
