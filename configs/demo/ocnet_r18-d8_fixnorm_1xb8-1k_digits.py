"""FixNorm: joint norm of all weights fixed, capped gains of the classifiers, no weight decay.

Command: make demo-seg, or after tools/make_digits.py
    python tools/train.py configs/demo/ocnet_r18-d8_fixnorm_1xb8-1k_digits.py
Run time: about four minutes on two CPU cores.
Expected result: mIoU 76.2 (README, two CPU cores).
Source: FixNorm, appendix A.4.2, on a model and data of toy size.
"""

_base_ = "./ocnet_r18-d8_baseline_1xb8-1k_digits.py"

model = dict(
    decode_head=dict(type="FixNormOCHead", alpha=1.0),
    auxiliary_head=dict(type="FixNormFCNHead", alpha=1.0),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
