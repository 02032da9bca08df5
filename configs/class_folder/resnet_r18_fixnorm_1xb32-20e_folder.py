"""The same ResNet-18 with FixNorm: no decay, one joint norm, bounded gain of the classifier.

Command:
    python tools/train_folder.py \
        configs/class_folder/resnet_r18_fixnorm_1xb32-20e_folder.py FOLDER
Run time: as the baseline's.
Expected: not measured.
Source: FixNorm, Algorithm 1 and eq. 10, on a small network; the paper has no such row.

The convolutions have a BN behind them and stay plain; the classifier is FixNorm-FC with α 4. Its
gain starts at the cap: from the norm of a fresh classifier it would not get there in a short run.
"""

_base_ = "./resnet_r18_baseline_1xb32-20e_folder.py"

model = dict(head=dict(type="FixNormLinearClsHead", alpha=4.0, gain_start="cap"))
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [
    dict(type="NormFixHook", mode="joint", weights="conv+classifier"),
]
