"""RetinaNet R50-FPN on COCO with FixNorm, cosine schedule.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/retinanet/retinanet_r50_fpn_fixnorm_8xb2-cosine-90k_coco.py 8
Expected: 37.1 box AP on val2017, the paper's figure; not trained here.
Run time: not measured.
Source: FixNorm, appendix A.4.3 and Table 4 (tuned FixNorm w/ cosine lr, lr .0145, alpha .5).
The cosine falls from the first iteration to zero at the last, with the warm-up on top of it.
"""

_base_ = "./retinanet_r50_fpn_fixnorm_8xb2-90k_coco.py"

param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=90000, eta_min=0.0),
]
