"""The same model with ordinary weight decay, no norm fixing, and a classifier whose gain is free.

Command: make demo-baseline, or after tools/make_digits.py
    python tools/train.py configs/demo/retinanet_r18_fpn_baseline_digits.py
Source: FixNorm, appendix A.4.3, on a model and data of toy size.
"""

_base_ = "./retinanet_r18_fpn_digits.py"

model = dict(bbox_head=dict(type="WNRetinaHead"))
optim_wrapper = dict(optimizer=dict(lr=0.015, weight_decay=1e-4))
custom_hooks = [
    dict(type="NormMonitorHook", layers=["bbox_head.retina_cls"]),
    dict(type="WeightTableHook"),
    dict(type="ReproducibleHook"),
]
