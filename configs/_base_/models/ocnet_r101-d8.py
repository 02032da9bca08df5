"""OCNet's network for 19 classes: dilated ResNet-101, Base-OC, auxiliary head on the third stage.

Source: github.com/openseg-group/OCNet.pytorch. Pixels are RGB minus (102.9801, 115.9465, 122.7717),
not divided: the mean is ImageNet's in the order of BGR, and the authors subtract it from RGB.

Weights to start from: the authors' ImageNet ResNet-101, whose stem is 64-64-128 wide
(resnet101-imagenet.pth in their README); others with these layers will do, MMSegmentation's
``resnet101_v1c`` does not fit. Its names are made OpenMMLab's by
    python tools/convert_checkpoint.py resnet101-imagenet.pth \\
        checkpoints/ocnet_resnet101.pth --config CONFIG

BN is synchronized between GPUs (``sync_bn``); one process, on a GPU or the CPU, has ordinary BN by
itself. MMSegmentation's own train.py over gloo needs ``--cfg-options sync_bn=None``.
"""

norm_cfg = dict(type="BN")
class_weight = [
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
]  # fmt: skip

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[102.9801, 115.9465, 122.7717],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=True,
        pad_val=0,  # after the mean has been subtracted
        seg_pad_val=255,
        size=(769, 769),
    ),
    backbone=dict(
        type="DilatedResNetV1c",
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=dict(type="Pretrained", checkpoint="checkpoints/ocnet_resnet101.pth"),
    ),
    decode_head=dict(
        type="OCHead",
        context="base",
        in_channels=2048,
        in_index=3,
        channels=512,
        num_classes=19,
        norm_cfg=norm_cfg,
        loss_decode=dict(
            type="WeightedCrossEntropyLoss", class_weight=class_weight, loss_weight=1.0
        ),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=1024,
        in_index=2,
        channels=512,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.05,
        num_classes=19,
        norm_cfg=norm_cfg,
        act_cfg=dict(type="LeakyReLU", negative_slope=0.01),
        align_corners=True,
        loss_decode=dict(
            type="WeightedCrossEntropyLoss", class_weight=class_weight, loss_weight=0.4
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
sync_bn = "torch"
