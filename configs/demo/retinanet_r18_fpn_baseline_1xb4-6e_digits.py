"""RetinaNet-R18 of half width on handwritten digits: weight decay, no norm fixing, a free gain.

Command: make demo, or after tools/make_digits.py
    python tools/train.py configs/demo/retinanet_r18_fpn_baseline_1xb4-6e_digits.py
Run time: .24 s an iteration on one CPU core, 960 of them.
Expected result: AP .36, AP50 .45 (one seed), at FixNorm's rate.
Source: FixNorm, appendix A.4.3, on a model and data of toy size. As there, what has no norm behind
it is weight-normalized in the baseline, too.

λ is .01, so that decay acts as much in 960 steps as MMDetection's 1e-4 does in 90 000 at
RetinaNet's rate of .01: ηλT/(1-m) is 1.4 and .9. With 1e-4 nothing would be seen of it here.

What was tried for FixNorm (seed 0, 8 epochs or less; AP50 on val):
- rate, batch 8, backbone with MMDetection's initialization: .2 diverged; .1 stayed at the loss of
  guessing; .05 and .04 learned only when the schedule lowered them; .03 learned from the start.
- batch 4, rate .015 (the same per picture, twice the steps): .47. Looking at why: at each step the
  heads' weights turned by some 4e-4 (radians), the backbone's 3x3 ones by 1e-5, because
  He's initialization makes them long (norm 8 ... 23) and a weight turns by the rate over its
  squared norm. A rate for the backbone tears the heads.
- the same with the backbone's weights 5 times shorter: .79. Batch norm undoes the change of scale,
  and any constant will do as the norm that is fixed.
No rate was tried for the baseline, and no other λ: it has FixNorm's rate, so read the comparison as a picture of what
norm fixing does to the norms, not as a contest.
"""

_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "../_base_/datasets/digits_detection.py",
    "../_base_/mmdet_runtime_small.py",
]
custom_imports = dict(imports=["normfix_mm.detection"], allow_failed_imports=False)

# Model: ResNet-18 from scratch, with BN in training mode; a thin pyramid and thin subnets.
# Strides 8, 16, 32 and anchors of 16 ... 102 pixels cover digits of 20 ... 51.
model = dict(
    data_preprocessor=dict(mean=[128.0] * 3, std=[64.0] * 3),
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        # He's, but 5 times shorter: gain sqrt(2 / (1 + a^2)).
        init_cfg=[
            dict(type="Kaiming", layer="Conv2d", a=5, nonlinearity="leaky_relu"),
            dict(type="Constant", layer="BatchNorm2d", val=1),
        ],
    ),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=64,
        num_outs=3,
        add_extra_convs=False,
        conv_cfg=dict(type="WNConv2d", gain=True),
    ),
    bbox_head=dict(
        type="WNRetinaHead",
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=2,
            scales_per_octave=3,
            ratios=[1.0, 2.0],
            strides=[8, 16, 32],
        ),
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=0.1, loss_weight=1.0),
        # RetinaNet's std .01 is made for 256 channels. With 64 it starves the backbone of
        # gradient, and short filters turn fast: the learning rate is then too low for one and too
        # high for the other. .06 is He's for 64 channels.
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.06,
            override=[
                dict(type="Normal", name="retina_cls", std=0.03, bias_prob=0.01),
                dict(type="Normal", name="retina_reg", std=0.02),
            ],
        ),
    ),
    test_cfg=dict(nms_pre=200, max_per_img=30),
)

# Schedule
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=6, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.015, momentum=0.9, fused=True, weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=150),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=6,
        T_max=6,
        eta_min=0,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
custom_hooks = [dict(type="NormMonitorHook", layers=["bbox_head.retina_cls"])]
