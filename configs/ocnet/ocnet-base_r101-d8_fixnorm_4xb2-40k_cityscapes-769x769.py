"""OCNet (Base-OC) R-101 on Cityscapes with FixNorm, polynomial rate.

Command, 4 GPUs with 2 crops each (with n GPUs add --auto-scale-lr; on one or none call
tools/train.py):
    bash tools/dist_train.sh configs/ocnet/ocnet-base_r101-d8_fixnorm_4xb2-40k_cityscapes-769x769.py 4
Expected: 79.4 mIoU on val, one scale, the paper's figure; not trained here.
Run time: not measured.
Source: FixNorm, appendix A.4.2 and Table 3 (tuned FixNorm, lr .0335, alpha 1); Algorithm 1 with
convolutions and classifier as one vector and no weight decay at all.
Everything else is the baseline's, see its header. What the paper leaves open, and our choice:
- The auxiliary classifier is a FixNorm-Conv like the last layer, and in the fixed norm with it.
- f_value and W, which have no norm behind them, are weight-normalized with gain; W starts at the
  gain 0, so that the context starts at zero as in OCNet.
"""

_base_ = "./ocnet-base_r101-d8_baseline_4xb2-40k_cityscapes-769x769.py"

model = dict(
    decode_head=dict(type="FixNormOCHead", alpha=1.0),
    auxiliary_head=dict(type="FixNormFCNHead", alpha=1.0),
)
optim_wrapper = dict(optimizer=dict(lr=0.0335, weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
