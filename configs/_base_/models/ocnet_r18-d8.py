"""OCNet (Base-OC) on a dilated ResNet-18 of half the width, without pretrained weights."""

norm_cfg = dict(type="BN", requires_grad=True)
act_cfg = dict(type="LeakyReLU", negative_slope=0.01)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type="DilatedResNetV1c",
        depth=18,
        base_channels=32,
        stem_channels=32,
        norm_cfg=norm_cfg,
        norm_eval=False,
    ),
    decode_head=dict(
        type="OCHead",
        context="base",
        in_channels=256,
        channels=128,
        in_index=3,
        num_classes=2,
        norm_cfg=norm_cfg,
        loss_decode=dict(type="WeightedCrossEntropyLoss"),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=128,
        channels=64,
        in_index=2,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.05,
        num_classes=2,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
        align_corners=True,
        loss_decode=dict(type="WeightedCrossEntropyLoss", loss_weight=0.4),
    ),
    test_cfg=dict(mode="whole"),
)
