"""40,000 iterations of SGD with OCNet's polynomial rate, which ends at zero."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=4000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, fused=True, weight_decay=5e-4),
)
# (1 - t/40000)^0.9; with end=40000, MMEngine's rate would be zero in the last iteration.
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, begin=0, end=40001, by_epoch=False)]
auto_scale_lr = dict(enable=False, base_batch_size=8)  # 4 GPUs with 2 crops each
