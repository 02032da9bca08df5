"""What the cross-boundary risk costs of an evaluation: CPU seconds beside those of the model.

    PYTHONPATH=. python benchmarks/risk_in_evaluation.py [--size 512 512]

Full-size models on made-up images, seven boxes on each, as COCO has on average; batches as in the
configs. Reading images and evaluating answers, which a real evaluation does too, are left out.
"""

import argparse
import copy
import statistics
import time

import torch
from detectors import ours, pictures
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

import normfix_mm.classification
import normfix_mm.segmentation  # noqa: F401  registers, as the line above
from normfix_mm import mean_cross_boundary_risk
from normfix_mm.engine.classified import readers_of

SEGMENTER = "ocnet/ocnet-base_r101-d8_fixnorm_4xb2-40k_cityscapes-769x769"
DETECTORS = (
    "retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco",
    "faster_rcnn/faster-rcnn_r50_fpn_fixnorm_8xb2-24e_coco",
)
CLASSIFIER = dict(
    type="ImageClassifier",
    data_preprocessor=dict(type="ClsDataPreprocessor", mean=[128] * 3, std=[64] * 3),
    backbone=dict(type="ResNet", depth=50),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=1000, in_channels=2048),
)


def detected(size) -> dict:
    data = pictures(*size)
    for sample in data["data_samples"]:
        corners = torch.rand(7, 2, 2) * torch.tensor(size)
        sample.gt_instances = type(sample.gt_instances)(
            bboxes=torch.cat([corners.amin(1), corners.amax(1) + 8], 1),
            labels=torch.randint(80, (7,)),
        )
    return data


def segmented(size) -> dict:
    sample = SegDataSample(metainfo=dict(img_shape=size[::-1], ori_shape=size[::-1]))
    sample.gt_sem_seg = PixelData(data=torch.randint(19, (1, *size[::-1])))
    return dict(inputs=[torch.randint(256, (3, *size[::-1]))], data_samples=[sample])


def classified(size) -> dict:
    samples = [DataSample().set_gt_label(number) for number in range(32)]
    return dict(inputs=torch.randint(256, (32, 3, 224, 224)), data_samples=samples)


@torch.no_grad()
def measured(model_cfg, scope: str, data: dict, repeats: int) -> tuple[float, float]:
    """CPU seconds of the model on a batch, and of the risk."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(copy.deepcopy(model_cfg)).eval()
    (reader,) = readers_of(model)
    reader.attach(None)
    times: list[tuple[float, float]] = []
    for _ in range(repeats + 1):
        start = time.process_time()
        answers = model.val_step(copy.deepcopy(data))
        middle = time.process_time()
        for seen in reader.read(answers, 100):
            mean_cross_boundary_risk(*seen).sum()
        times.append((middle - start, time.process_time() - middle))
    return tuple(statistics.median(column) for column in zip(*times[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("W", "H"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    size = tuple(args.size)
    work = {"ResNet-50, 1000 classes, 32 of 224²": (CLASSIFIER, "mmpretrain", classified(size))}
    for name in DETECTORS:
        work[name.partition("/")[2]] = ours(name).model, "mmdet", detected(size)
    model = ours(SEGMENTER).model
    work[SEGMENTER.partition("/")[2]] = model, "mmseg", segmented(size)
    print("| model | ms of a batch | ms of its risk | share |\n|---|---|---|---|")
    for name, (cfg, scope, data) in work.items():
        if "init_cfg" in cfg.get("backbone", {}):
            cfg.backbone.init_cfg = None
        forward, risk = measured(cfg, scope, data, args.repeats)
        print(f"| {name} | {1e3 * forward:.0f} | {1e3 * risk:.1f} | {risk / forward:.1%} |")


if __name__ == "__main__":
    main()
