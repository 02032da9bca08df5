"""FixNorm: joint norm of all weights fixed, capped gain on the classifier, no weight decay.

Command: make demo, or after tools/make_digits.py
    python tools/train.py configs/demo/retinanet_r18_fpn_fixnorm_1xb4-6e_digits.py
Run time: .24 s an iteration on one CPU core, 960 of them.
Expected result: AP .37, AP50 .49 (one seed).
Source: FixNorm, appendix A.4.3, on a model and data of toy size.
"""

_base_ = "./retinanet_r18_fpn_baseline_1xb4-6e_digits.py"

model = dict(bbox_head=dict(type="FixNormRetinaHead", alpha=1.0))
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
