"""OCNet (Base-OC) R-101 on Cityscapes: the baseline of FixNorm's Table 3, cosine rate.

Command, 4 GPUs with 2 crops each (with n GPUs add --auto-scale-lr; on one or none call
tools/train.py):
    bash tools/dist_train.sh configs/ocnet/ocnet-base_r101-d8_baseline_4xb2-cosine-40k_cityscapes-769x769.py 4
Expected: 78.3 mIoU on val, one scale, the paper's figure; not trained here.
Run time: not measured.
Source: FixNorm, appendix A.4.2 and Table 3 (baseline w/ cosine lr, lr .01, weight decay 5e-4).
The cosine falls from the first iteration to zero after the last.
"""

_base_ = "./ocnet-base_r101-d8_baseline_4xb2-40k_cityscapes-769x769.py"

param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=40000, eta_min=0.0)]
