"""OCNet (Base-OC) R-101 on Cityscapes: the baseline of FixNorm's Table 3, polynomial rate.

Command, 4 GPUs with 2 crops each (with n GPUs add --auto-scale-lr; on one or none call
tools/train.py):
    bash tools/dist_train.sh configs/ocnet/ocnet-base_r101-d8_baseline_4xb2-40k_cityscapes-769x769.py 4
Expected: 78.7 mIoU on val, one scale, the paper's figure; not trained here.
Run time: not measured.
Source: FixNorm, appendix A.4.2 and Table 3 (baseline, lr .01, weight decay 5e-4, 40k iterations,
crop 769, batch 8 on 4 GPUs, poly); everything else "follows the basic training settings" of
OCNet, arXiv 1809.00916 and github.com/openseg-group/OCNet.pytorch,
whose own figure for Base-OC is 79.3.

What the paper leaves open, and our choice, the OCNet authors' code:
- Loss: cross entropy weighted by class, on the auxiliary output with the factor 0.4; no OHEM.
- Power of the polynomial: 0.9, down to 0 and not to MMSegmentation's 1e-4; no warm-up.
- Augmentation: scales 0.5, 0.6 ... 2.1, crops, flips; no photometric distortion.
- Weight decay reaches biases and BN's parameters too.
- Weights to start from: ../_base_/models/ocnet_r101-d8.py says which, and how to convert them.
Here a side shorter than the crop is padded after the flip, in the authors' code before it.
"""

_base_ = [
    "../_base_/models/ocnet_r101-d8.py",
    "../_base_/datasets/cityscapes_769x769.py",
    "../_base_/schedules/schedule_40k.py",
    "../_base_/mmseg_runtime.py",
]

default_hooks = dict(checkpoint=dict(interval=4000))
visualizer = dict(name="visualizer")
