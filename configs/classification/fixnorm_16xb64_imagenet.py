"""ImageNet rows of FixNorm: Tables 1 and 2, of which --row chooses one.

Command, 16 GPUs with 64 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/classification/fixnorm_16xb64_imagenet.py 16 --row r50d_fixnorm
Expected: the paper's figures, top-1 of a central crop, in rows/fixnorm_imagenet.py; not trained here.
Run time: not measured.
Source: FixNorm, sections 3.1 and 3.2, Tables 1 and 2, appendix A.3: Nesterov's momentum .9, batch
1024, warm-up over 4 epochs, then one cosine to zero, label smoothing .1, no decay of biases and BN.

FixNorm: no decay at all; the joint norm of the convolutions, of the classifier and of the layers of
squeeze-and-excitation (which are WN-FC) is fixed; the classifier is FixNorm-FC. The other rows have
the stock network under decay, with the paper's searched (bo) or reference settings.
What the paper leaves open ("other settings follow reference implementations"), and our choice:
- Networks with the tricks, and EfficientNets: AutoAugment; stochastic depth at rate .2; no dropout
  before the classifier, which MMPretrain's head does not have. EfficientNet-B1 sees 240 pixels.
- BN's eps is 1e-5 everywhere, also in EfficientNets (whose own 1e-3 is a norm that a small weight
  does not get through unchanged: then its scale counts, and may not be fixed).
- The reference figures of EfficientNets are other authors' and have no rows.
"""

_base_ = [
    "../_base_/mmpretrain_runtime.py",
    "../_base_/datasets/imagenet.py",
    "./rows/fixnorm_imagenet.py",
]

model = dict(
    type="ImageClassifier",
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type="NormalizedResNetV1d", depth=50, normalize=[]),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="FixNormLinearClsHead",
        num_classes=1000,
        in_channels=2048,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1),
        topk=(1, 5),
    ),
)
train_dataloader = dict(batch_size=64)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=120, val_interval=1)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=1.4, momentum=0.9, fused=True, nesterov=True, weight_decay=0.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, end=4, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=116,
        begin=4,
        end=120,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
auto_scale_lr = dict(enable=False, base_batch_size=1024)

_squeezes = [dict(form="WN", kind="se")]
_tricks = {
    "train_dataloader.dataset.pipeline": [
        dict(type="LoadImageFromFile"),
        dict(type="RandomResizedCrop", scale=224),
        dict(type="RandomFlip", prob=0.5, direction="horizontal"),
        dict(type="AutoAugment", policies="imagenet", hparams=dict(pad_val=[104, 116, 124])),
        dict(type="PackInputs"),
    ]
}
options = dict(
    network={
        "r50d": {},
        "r50d-tricks": _tricks
        | {
            "model.backbone": dict(
                _delete_=True,
                type="NormalizedSEResNetD",
                depth=50,
                drop_path_rate=0.2,
                normalize=_squeezes,
            )
        },
        "mobilenetv2": {
            "model.backbone": dict(_delete_=True, type="NormalizedMobileNetV2", normalize=[]),
            "model.head.in_channels": 1280,
        },
        "mobilenetv2x1.12-tricks": _tricks
        | {
            "model.backbone": dict(
                _delete_=True,
                type="NormalizedSEMobileNetV2",
                widen_factor=1.12,
                drop_path_rate=0.2,
                normalize=_squeezes,
            ),
            "model.head.in_channels": 1433,
        },
        "mobilenetv2x1.54-tricks": _tricks
        | {
            "model.backbone": dict(
                _delete_=True,
                type="NormalizedSEMobileNetV2",
                widen_factor=1.54,
                drop_path_rate=0.2,
                normalize=_squeezes,
            ),
            "model.head.in_channels": 1971,
        },
        "efficientnet-b0": _tricks
        | {
            "model.backbone": dict(
                _delete_=True,
                type="NormalizedEfficientNet",
                arch="b0",
                drop_path_rate=0.2,
                norm_cfg=dict(type="BN"),
                normalize=_squeezes,
            ),
            "model.head.in_channels": 1280,
        },
        "efficientnet-b1": _tricks
        | {
            "model.backbone": dict(
                _delete_=True,
                type="NormalizedEfficientNet",
                arch="b1",
                drop_path_rate=0.2,
                norm_cfg=dict(type="BN"),
                normalize=_squeezes,
            ),
            "model.head.in_channels": 1280,
            "train_dataloader.dataset.pipeline.1.scale": 240,
            "val_dataloader.dataset.pipeline.1.scale": 274,
            "val_dataloader.dataset.pipeline.2.crop_size": 240,
            "test_dataloader.dataset.pipeline.1.scale": 274,
            "test_dataloader.dataset.pipeline.2.crop_size": 240,
        },
    },
    epochs={
        120: {},
        150: {
            "train_cfg.max_epochs": 150,
            "param_scheduler.1.T_max": 146,
            "param_scheduler.1.end": 150,
        },
        350: {
            "train_cfg.max_epochs": 350,
            "param_scheduler.1.T_max": 346,
            "param_scheduler.1.end": 350,
        },
    },
    lr=["optim_wrapper.optimizer.lr"],
    alpha=["model.head.alpha"],
    lam=["optim_wrapper.optimizer.weight_decay"],
    method=dict(
        fixnorm={},
        decay={
            "model.backbone.normalize": [],
            "model.head.type": "LinearClsHead",
            "custom_hooks": [],
        },
    ),
)
del _squeezes, _tricks
