"""The same Cascade Mask R-CNN with WS in the backbone and the ε-shifted regularizer.

Command:
    python tools/train_folder.py \
        configs/coco_folder/cascade-mask-rcnn_r18_fpn_ws-eps_1xb4-8e_folder.py FOLDER
Run time: not measured.
Expected: 0.471 mask AP on the nuclei (docs/real_images.md), one seed, measured when this config did not decay
biases.
Source: ε-shifted regularizer, on a small detector; the paper has no such row. What is standardized
and what decays is as in the Mask R-CNN's WS + ε-shift config.
"""

_base_ = "./cascade-mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py"

model = dict(backbone=dict(type="NormalizedResNet", normalize=dict(form="WS")))
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    # Biases and BN's parameters decay as the baseline's do; by itself this constructor leaves
    # biases alone.
    paramwise_cfg=dict(
        bias_decay_mult=1.0, norm_decay_mult=1.0, eps_shift=dict(lam=1e-4, eps=1e-3)
    ),
)
