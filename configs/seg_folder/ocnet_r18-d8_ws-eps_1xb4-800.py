"""The same OCNet with weight standardization and the ε-shifted regularizer.

Command:
    python tools/train_folder.py configs/seg_folder/ocnet_r18-d8_ws-eps_1xb4-800.py FOLDER
Run time: as the baseline's.
Every convolution with a BN behind it is standardized, in the heads as in the backbone. OCNet's
f_value and W and the classifiers have none and stay plain under ordinary decay, as do BN's
parameters; biases get no decay. λ is the baseline's decay, ε the paper's for large models.
"""

_base_ = "./ocnet_r18-d8_baseline_1xb4-800.py"

model = dict(
    backbone=dict(type="NormalizedDilatedResNetV1c", normalize=dict(form="WS")),
    decode_head=dict(conv_cfg=dict(type="WSConv2d")),
    auxiliary_head=dict(conv_cfg=dict(type="WSConv2d")),
)
optim_wrapper = dict(
    constructor="EpsShiftOptimWrapperConstructor",
    paramwise_cfg=dict(eps_shift=dict(lam=5e-4, eps=1e-3)),
)
