"""The same ResNet-18 with weight standardization and the ε-shifted regularizer.

Command:
    python tools/train_folder.py \
        configs/class_folder/resnet_r18_ws-eps_1xb32-20e_folder.py FOLDER
Run time: as the baseline's.
Expected: not measured.
Source: ε-shifted regularizer, section 6.5, on a small network; the paper has no such row.

Every convolution is standardized; the classifier stays plain under decay. λ is the baseline's
decay, ε the paper's for CIFAR-100.
"""

_base_ = "./resnet_r18_baseline_1xb32-20e_folder.py"

model = dict(backbone=dict(type="NormalizedResNet", normalize=dict(form="WS")))
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(eps_shift=dict(lam=5e-4, eps=1e-2)),
)
