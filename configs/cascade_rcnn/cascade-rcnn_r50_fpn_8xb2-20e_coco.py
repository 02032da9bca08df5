"""Cascade R-CNN R50-FPN on COCO: the baseline of the ε-shift paper's Table VII.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/cascade_rcnn/cascade-rcnn_r50_fpn_8xb2-20e_coco.py 8
Expected: 41.1 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 41.1, AP.5 59.3, AP.75 44.8, APs 22.6, APm 44.5, APl 54.9, ARs 33.2, ARm 58.8, ARl 70.7
Run time: not measured.
Source: ε-shifted regularizer, section 6.1 and Table VII (lr .02, weight decay 1e-4, 20 epochs,
rate divided by 10 after the 16th and 19th, 800 pixels, batch 16); clipping at 35 and warm-up over
500 iterations from 1/3 are in its code, as are MMDetection's losses.

What the paper leaves open, and our choice:
- BN: statistics fixed as in MMDetection, and γ and β too ("fixing the learning parameters of BN
  layers"), in all rows. MMDetection's own base trains γ and β.
- Weight decay reaches the biases, as in MMDetection, in all rows of the table with decay.
- The paper's code is MMDetection 1.x. RoIAlign (then neither aligned nor adaptive), the number of
  proposals (then 2000) and the regression targets' coding are those of MMDetection 3.
"""

_base_ = ["mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_20e_coco.py", "../_base_/coco_columns.py"]
custom_imports = dict(imports=["normfix_mm.detection"], allow_failed_imports=False)

model = dict(backbone=dict(norm_cfg=dict(type="BN", requires_grad=False)))

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1.0 / 3.0, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=20, milestones=[16, 19], gamma=0.1),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=20, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=16)
custom_hooks = [dict(type="WeightTableHook"), dict(type="ReproducibleHook")]

# Table VII's nine columns.
val_evaluator = dict(metric_items={{_base_.columns}})
test_evaluator = val_evaluator
