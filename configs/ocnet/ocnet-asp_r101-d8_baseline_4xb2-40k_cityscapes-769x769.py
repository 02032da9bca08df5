"""OCNet (ASP-OC) R-101 on Cityscapes.

Command, 4 GPUs with 2 crops each (with n GPUs add --auto-scale-lr; on one or none call
tools/train.py):
    bash tools/dist_train.sh configs/ocnet/ocnet-asp_r101-d8_baseline_4xb2-40k_cityscapes-769x769.py 4
Expected: 79.5 mIoU on val, one scale, the authors' figure; not trained here.
Run time: not measured.
Source: arXiv 1809.00916 and github.com/openseg-group/OCNet.pytorch.
The auxiliary head's dropout is 0.1, as in the authors' code.
Everything else is Base-OC's, see its header.
"""

_base_ = "./ocnet-base_r101-d8_baseline_4xb2-40k_cityscapes-769x769.py"

model = dict(
    decode_head=dict(context="asp"),
    auxiliary_head=dict(dropout_ratio=0.1),
)
