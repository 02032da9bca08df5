"""Cascade R-CNN R50-FPN on COCO: the baseline of the ε-shift paper's Table VII.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/cascade_rcnn/cascade-rcnn_r50_fpn_baseline_8xb2-20e_coco.py 8
Expected: 41.1 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 41.1, AP.5 59.3, AP.75 44.8, APs 22.6, APm 44.5, APl 54.9, ARs 33.2, ARm 58.8, ARl 70.7
Run time: not measured.
Source: ε-shifted regularizer, section 6.1 and Table VII (lr .02, weight decay 1e-4, 20 epochs,
rate divided by 10 after the 16th and 19th, 800 pixels, batch 16); clipping at 35 and warm-up over
500 iterations from 1/3 are in its code, as are MMDetection's losses.

What the paper leaves open, and our choice:
- BN: statistics fixed as in MMDetection, and γ and β too, in all rows, as the text says. The
  authors' code does not do so: its ResNet has frozen=False, and MMDetection's own base trains γ
  and β, too.
- Weight decay reaches the biases, as in MMDetection, in all rows of the table with decay.
- The paper's code is MMDetection 1.x. RoIAlign (then neither aligned nor adaptive), the number of
  proposals (then 2000) and the regression targets' coding are those of MMDetection 3.
"""

_base_ = [
    "mmdet::_base_/models/cascade-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_20e.py",
    "../_base_/mmdet_runtime.py",
]

model = dict(backbone=dict(norm_cfg=dict(type="BN", requires_grad=False)))
