"""RetinaNet R50-FPN on COCO with FixNorm, step schedule.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco.py 8
Expected: 36.9 box AP on val2017, the paper's figure; not trained here.
Run time: not measured.
Source: FixNorm, appendix A.4.3 and Table 4 (tuned FixNorm, lr .0145, alpha .5); Algorithm 1 with
convolutions and classifier as one vector and no weight decay at all.
Everything else is the baseline's, see its header for what the paper leaves open.
"""

_base_ = "./retinanet_r50_fpn_wn_8xb2-90k_coco.py"

model = dict(bbox_head=dict(type="FixNormRetinaHead", alpha=0.5))
optim_wrapper = dict(optimizer=dict(lr=0.0145, weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
