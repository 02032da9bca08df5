"""FixNorm: joint norm of all weights fixed, capped gain on the classifier, no weight decay."""

_base_ = "./retinanet_r18_fpn_digits.py"

model = dict(bbox_head=dict(type="FixNormRetinaHead", alpha=1.0))
optim_wrapper = dict(optimizer=dict(lr=0.015, weight_decay=0.0))
custom_hooks = [
    dict(type="NormFixHook", mode="joint", weights="conv+classifier"),
    dict(type="ReproducibleHook"),
]
