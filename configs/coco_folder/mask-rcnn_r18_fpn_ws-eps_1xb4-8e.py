"""The same Mask R-CNN with weight standardization in the backbone and the ε-shifted regularizer.

Command:
    python tools/train_folder.py configs/coco_folder/mask-rcnn_r18_fpn_ws-eps_1xb4-8e.py FOLDER
Every backbone convolution has a BN behind it and is standardized; pyramid and heads have none and
stay plain under ordinary decay (λ 1e-4), as do BN's parameters; biases get no decay.
λ and ε are the paper's for large models.
"""

_base_ = "./mask-rcnn_r18_fpn_baseline_1xb4-8e.py"

model = dict(backbone=dict(type="NormalizedResNet", normalize=dict(form="WS")))
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(eps_shift=dict(lam=1e-4, eps=1e-3)),
)
