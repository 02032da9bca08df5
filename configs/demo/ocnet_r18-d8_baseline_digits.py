"""The same OCNet with ordinary weight decay, no norm fixing, and classifiers whose gain is free.

Command: make demo-seg DEMO_ARGS=--baseline, or after tools/make_digits.py
    python tools/train.py configs/demo/ocnet_r18-d8_baseline_digits.py
Source: FixNorm, appendix A.4.2, on a model and data of toy size.
"""

_base_ = "./ocnet_r18-d8_digits.py"

custom_hooks = [
    dict(type="NormMonitorHook", layers=["decode_head.conv_seg"]),
    dict(type="WeightTableHook"),
    dict(type="ReproducibleHook"),
]
