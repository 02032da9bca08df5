"""Mask R-CNN R50-FPN on COCO: the baseline of the ε-shift paper's Table VIII.

Command, 8 GPUs with 2 images each (with n GPUs add --auto-scale-lr):
    bash tools/dist_train.sh configs/mask_rcnn/mask-rcnn_r50_fpn_baseline_8xb2-24e_coco.py 8
Expected: 38.6 box AP on val2017, the paper's figure; not trained here. All its columns:
    AP 38.6, AP.5 60.0, AP.75 41.9
Run time: not measured.
Source: ε-shifted regularizer, section 6.1 and Table VIII (the baselines' own settings in MMDetection:
lr .02, weight decay 1e-4, 24 epochs, rate divided by 10 after the 16th and 22nd, 800 pixels, batch
16); clipping at 35, warm-up over 500 iterations from 1/3 and smooth L1 are in its code.

What the paper leaves open, and our choice:
- Table VIII does not say box or mask AP; the figures fit boxes.
- BN: statistics fixed as in MMDetection, and γ and β too, in all rows: section 6.1 says it of the
  fine-tuning in general. The official settings train γ and β, and so does the authors' code, whose
  ResNet has frozen=False.
- Weight decay reaches the biases, as in MMDetection, in all rows of the table with decay.
- The paper's code is MMDetection 1.x, whose box losses (smooth L1, β 1/9 in the RPN and 1 in the
  RoI head) are restored here. RoIAlign (then neither aligned nor adaptive), the number of
  proposals (then 2000) and the regression targets' coding are those of MMDetection 3.
"""

_base_ = [
    "../_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/schedule_24e.py",
    "../_base_/mmdet_runtime.py",
]
