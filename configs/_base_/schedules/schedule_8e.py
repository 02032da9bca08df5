"""8 epochs from scratch: warm-up over 26 iterations, a tenth of the rate from epoch 7 on."""

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=8, val_interval=8)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, fused=True, weight_decay=1e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=26),
    dict(type="MultiStepLR", by_epoch=True, milestones=[6], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
