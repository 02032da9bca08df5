"""The same model with ordinary weight decay and no norm fixing; its classifier's gain is free."""

_base_ = "./retinanet_r18_fpn_digits.py"

model = dict(bbox_head=dict(type="WNRetinaHead"))
optim_wrapper = dict(optimizer=dict(lr=0.015, weight_decay=1e-4))
custom_hooks = [
    dict(type="NormMonitorHook", layers=["bbox_head.retina_cls"]),
    dict(type="ReproducibleHook"),
]
