"""The same OCNet with weight standardization and the ε-shifted regularizer.

Command:
    python tools/train_folder.py \
        configs/seg_folder/ocnet_r18-d8_ws-eps_1xb4-800iters_folder.py FOLDER
Run time: as the baseline's.
Expected: 42.5 ± 0.4 mIoU on the streets (docs/real_images.md), at rate .2, three seeds, measured when this
config did not decay biases.
Source: ε-shifted regularizer, on a small segmenter; the paper has no such row.

Every convolution with a BN behind it is standardized, in the heads as in the backbone. OCNet's
f_value and W and the classifiers have none and stay plain. They, BN's parameters and all biases
decay as in the baseline, so that the two differ in the method alone; the paper, on ImageNet, decays
no biases in any row.
λ is the baseline's decay; ε is one of the two best values on ImageNet (section 6.3, Table IV), not
tuned here.
"""

_base_ = "./ocnet_r18-d8_baseline_1xb4-800iters_folder.py"

model = dict(
    backbone=dict(type="NormalizedDilatedResNetV1c", normalize=dict(form="WS")),
    decode_head=dict(conv_cfg=dict(type="WSConv2d")),
    auxiliary_head=dict(conv_cfg=dict(type="WSConv2d")),
)
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    # Biases and BN's parameters decay as the baseline's do; by itself this constructor leaves
    # biases alone.
    paramwise_cfg=dict(
        bias_decay_mult=1.0, norm_decay_mult=1.0, eps_shift=dict(lam=5e-4, eps=1e-3)
    ),
)
