"""24 epochs, MMDetection's 2x: a tenth of the rate after the 16th and 22nd; else as 20 epochs."""

_base_ = "./schedule_20e.py"

train_cfg = dict(max_epochs=24)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=24, milestones=[16, 22], gamma=0.1),
]
