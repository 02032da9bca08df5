"""The runtime of a segmenter's short run: it logs more often, keeps two checkpoints, has a seed."""

_base_ = "./mmseg_runtime.py"

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100, max_keep_ckpts=2))
randomness = dict(seed=0)
