"""RetinaNet-R18 from scratch on any small COCO-format folder: plain layers, ordinary weight decay.

Command (path and classes are given once; the classes default to those in the annotations):
    python tools/train_folder.py \
        configs/coco_folder/retinanet_r18_fpn_baseline_1xb8-8e_folder.py FOLDER
    python tools/compare.py FOLDER     # this against WS + ε-shift and FixNorm, rates tuned alike
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json.
Run time: 0.6 s an iteration of 8 images at 320×240 on two CPU cores.
Expected: 0.277 ± 0.007 box AP on the blood cells of docs/real_images.md, three seeds.
Source: MMDetection's RetinaNet, made thin; no paper has this. The learning rate is the one that the
comparison on the blood cells chose.
"""

_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "../_base_/datasets/coco_folder.py",
    "../_base_/schedules/schedule_8e.py",
    "../_base_/mmdet_runtime_small.py",
]

# Model: every BN trains; thin pyramid and subnets. num_classes comes from the data.
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=0.11, loss_weight=1.0),
        # RetinaNet's std .01 is made for 256 channels: at 64 it lets so little gradient through
        # that eight epochs end before the classifier has left its prior. .06 is He's for 64.
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
)
