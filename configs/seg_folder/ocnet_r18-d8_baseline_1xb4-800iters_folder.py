"""OCNet (Base-OC) with a thin dilated ResNet-18 from scratch on any small segmentation folder.

Command (path and classes are given once; the classes default to the numbers in the labels):
    python tools/train_folder.py \
        configs/seg_folder/ocnet_r18-d8_baseline_1xb4-800iters_folder.py FOLDER
    python tools/compare.py FOLDER --model ocnet_r18-d8 --rate .05   # against WS + ε-shift, FixNorm
FOLDER holds images/{train,val}/ and labels/{train,val}/, PNG files of class numbers, 255 ignored.
Run time: 6 minutes on one CPU core.
Expected: 41.3 ± 0.6 mIoU on the streets of docs/real_images.md, at rate .2, three seeds.
Source: OCNet (arXiv 1809.00916), made thin; no paper has this. Plain layers, ordinary weight decay:
OCNet's 5e-4.
"""

_base_ = [
    "../_base_/models/ocnet_r18-d8.py",
    "../_base_/datasets/seg_folder.py",
    "../_base_/schedules/schedule_800iters.py",
    "../_base_/mmseg_runtime_small.py",
]

model = dict(data_preprocessor=dict(size=_base_.crop_size))
