"""The runtime of a detector's short run: it logs more often, keeps two checkpoints, has a seed."""

_base_ = "./mmdet_runtime.py"

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
