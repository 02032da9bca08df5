"""The same ResNet-18 with weight standardization and the ε-shifted regularizer.

Command:
    python tools/train_folder.py configs/class_folder/resnet18_ws-eps_1xb32-20e.py FOLDER
Run time and expected result: as the baseline's.
Every convolution is standardized; the classifier stays plain under decay. λ is the baseline's
decay, ε the paper's for CIFAR-100.
"""

_base_ = "./resnet18_baseline_1xb32-20e.py"

model = dict(backbone=dict(type="NormalizedResNet", normalize=dict(form="WS")))
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(eps_shift=dict(lam=5e-4, eps=1e-2)),
)
