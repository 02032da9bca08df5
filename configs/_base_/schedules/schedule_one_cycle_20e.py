"""20 epochs from scratch by Nesterov's momentum: two of warm-up, then one cosine to zero."""

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=20, val_interval=2)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, fused=True, nesterov=True, weight_decay=5e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, end=2, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=18,
        begin=2,
        end=20,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
