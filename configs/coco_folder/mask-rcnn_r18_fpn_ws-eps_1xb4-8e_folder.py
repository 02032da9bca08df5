"""The same Mask R-CNN with weight standardization in the backbone and the ε-shifted regularizer.

Command:
    python tools/train_folder.py \
        configs/coco_folder/mask-rcnn_r18_fpn_ws-eps_1xb4-8e_folder.py FOLDER
Run time: not measured.
Expected: 0.430 ± 0.008 mask AP on the nuclei (docs/real_images.md), three seeds, measured when this config did
not decay biases.
Source: ε-shifted regularizer, on a small detector; the paper has no such row.

Every backbone convolution has a BN behind it and is standardized; pyramid and heads have none and
stay plain. They, BN's parameters and all biases decay as in the baseline, so that the two differ in
the method alone; the paper, on ImageNet, decays no biases in any row.
λ is the baseline's decay; ε is one of the two best values on ImageNet (section 6.3, Table IV), not
tuned here.
"""

_base_ = "./mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py"

model = dict(backbone=dict(type="NormalizedResNet", normalize=dict(form="WS")))
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    # Biases and BN's parameters decay as the baseline's do; by itself this constructor leaves
    # biases alone.
    paramwise_cfg=dict(
        bias_decay_mult=1.0, norm_decay_mult=1.0, eps_shift=dict(lam=1e-4, eps=1e-3)
    ),
)
