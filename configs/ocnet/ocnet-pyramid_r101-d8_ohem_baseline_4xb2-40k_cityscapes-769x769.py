"""OCNet (Pyramid-OC) R-101 on Cityscapes, trained on hard pixels (OHEM).

Command, 4 GPUs with 2 crops each (with n GPUs add --auto-scale-lr; on one or none call
tools/train.py):
    bash tools/dist_train.sh configs/ocnet/ocnet-pyramid_r101-d8_ohem_baseline_4xb2-40k_cityscapes-769x769.py 4
Expected: no figure of the authors' for this set-up; not trained here.
Run time: not measured.
Source: arXiv 1809.00916 and github.com/openseg-group/OCNet.pytorch.
Pixels whose class has a probability above 0.7 do not count, but at least 100,000 of the two crops
of a GPU do: with other crops a GPU, change min_kept alike. The auxiliary output keeps its loss over
all pixels, as in the authors' code ("hard-mining for both supervision harms the performance").
"""

_base_ = "./ocnet-pyramid_r101-d8_baseline_4xb2-40k_cityscapes-769x769.py"

model = dict(
    decode_head=dict(
        loss_decode=dict(type="OHEMWeightedCrossEntropyLoss", thresh=0.7, min_kept=100000)
    )
)
