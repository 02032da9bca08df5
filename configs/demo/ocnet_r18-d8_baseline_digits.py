"""The same model with ordinary weight decay, no norm fixing, and stock heads.

Command: make demo-seg-baseline, or after tools/make_digits.py
    python tools/train.py configs/demo/ocnet_r18-d8_baseline_digits.py
Source: the OCNet recipe, on a model and data of toy size.
"""

_base_ = "./ocnet_r18-d8_digits.py"

custom_hooks = [
    dict(type="NormMonitorHook"),
    dict(type="WeightTableHook"),
    dict(type="ReproducibleHook"),
]
