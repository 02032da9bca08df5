"""The same Cascade Mask R-CNN with WS in the backbone and the ε-shifted regularizer.

Command:
    python tools/train_folder.py configs/coco_folder/cascade-mask-rcnn_r18_fpn_ws-eps_1xb4-8e.py \
        FOLDER
What is standardized and what decays is as in the Mask R-CNN's WS + ε-shift config.
"""

_base_ = "./cascade-mask-rcnn_r18_fpn_baseline_1xb4-8e.py"

model = dict(backbone=dict(type="NormalizedResNet", normalize=dict(form="WS")))
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(eps_shift=dict(lam=1e-4, eps=1e-3)),
)
