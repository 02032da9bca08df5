"""CIFAR-100 rows of the ε-shift paper (Table VI): (SE-)ResNeXt-29 16×64d, one chosen by --row.

Command, one GPU:
    python tools/train.py configs/classification/eps-shift_1xb64-300e_cifar100.py --row x29_ws-eps
Expected: the paper's Table VI; its figures are not at hand, and not trained here.
Run time: not measured.
Source: ε-shifted regularizer, sections 6.1 and 6.5: batch 64, λ 5e-4, 300 epochs, .05 and a tenth
after 150 and 225; cutout and mixup with their authors' parameters (a square of 8, α 1); ε 1e-2.

WS is on every convolution; the classifier and squeeze-and-excitation stay plain under decay.
"""

_base_ = ["../_base_/mmpretrain_runtime.py", "../_base_/datasets/cifar100.py"]

model = dict(
    type="ImageClassifier",
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type="NormalizedResNeXtCIFAR", zero_init_residual=False, normalize=[]),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=100,
        in_channels=1024,
        loss=dict(type="CrossEntropyLoss", use_soft=True),
        topk=(1, 5),
    ),
    train_cfg=dict(augments=dict(type="Mixup", alpha=1.0)),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300, val_interval=1)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.05, momentum=0.9, fused=True, weight_decay=5e-4),
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(eps_shift=dict(lam=5e-4, eps=1e-2)),
)
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, milestones=[150, 225], gamma=0.1)]
auto_scale_lr = dict(enable=False, base_batch_size=64)

options = dict(
    network={"x29": {}, "se-x29": {"model.backbone.type": "NormalizedSEResNeXtCIFAR"}},
    method={
        "baseline": {"optim_wrapper.paramwise_cfg.eps_shift": None},
        "ws": {
            "optim_wrapper.paramwise_cfg.eps_shift": None,
            "model.backbone.normalize": dict(_delete_=True, form="WS"),
        },
        "ws-eps": {"model.backbone.normalize": dict(_delete_=True, form="WS")},
    },
)
rows = {
    "x29_baseline": dict(network="x29", method="baseline", table="VI"),
    "x29_ws": dict(network="x29", method="ws", table="VI"),
    "x29_ws-eps": dict(network="x29", method="ws-eps", table="VI"),
    "se-x29_baseline": dict(network="se-x29", method="baseline", table="VI"),
    "se-x29_ws": dict(network="se-x29", method="ws", table="VI"),
    "se-x29_ws-eps": dict(network="se-x29", method="ws-eps", table="VI"),
}
