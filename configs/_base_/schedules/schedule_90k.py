"""90,000 iterations of FixNorm's RetinaNet: a tenth of the rate after 60,000 and 80,000.

Source: FixNorm, appendix A.4.3. Warm-up as in MMDetection, 500 iterations from 1/1000.
"""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=90000, val_interval=10000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, fused=True, weight_decay=1e-4),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type="MultiStepLR", by_epoch=False, begin=0, end=90000, milestones=[60000, 80000], gamma=0.1
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)  # 8 GPUs with 2 images each
