"""The same ResNet-18 with FixNorm: no decay, one joint norm, bounded gain of the classifier.

Command:
    python tools/train_folder.py configs/class_folder/resnet18_fixnorm_1xb32-20e.py FOLDER
Run time and expected result: as the baseline's.
The convolutions have a BN behind them and stay plain; the classifier is FixNorm-FC with α 4. Its
gain starts at the cap: from the norm of a fresh classifier it would not get there in a short run.
"""

_base_ = "./resnet18_baseline_1xb32-20e.py"

model = dict(head=dict(type="FixNormLinearClsHead", alpha=4.0, gain_start="cap"))
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [
    dict(type="NormFixHook", mode="joint", weights="conv+classifier"),
    dict(type="CrossBoundaryRiskHook"),
    dict(type="WeightTableHook"),
    dict(type="ReproducibleHook"),
]
