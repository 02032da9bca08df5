"""A run that is the same whether two ranks share its batches or one rank has them all.

Pictures come in twins: equal boxes, so equal numbers of positives, under other noise. Of two ranks
each gets one of every pair, in order, without flips; GN in the backbone has no batch statistics.

    torchrun --nproc_per_node=2 tests/engine/twin_run.py DATA WORK_DIR

writes WORK_DIR/rank{0,1}.pth.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from engine.toy_run import CLASSES, toy_config
from helpers.toy_coco import make_toy_coco
from mmengine.config import Config

from normfix_mm.run.runner import build_runner

METHODS = ("eps-shift", "joint norm", "both")
WHERE = "^(neck|bbox_head)"


def make_twins(root: Path) -> None:
    """Eight pairs of pictures: four iterations of two pairs."""
    make_toy_coco(root, CLASSES, n_images=8, size=(64, 48))
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    noise = np.random.default_rng(7)
    images, annotations = [], []
    for image in content["images"]:
        picture = cv2.imread(str(root / "train2017" / image["file_name"]))
        for twin in (0, 1):
            number = 2 * image["id"] + twin
            name = f"twin{number}.png"
            cv2.imwrite(
                str(root / "train2017" / name),
                picture ^ noise.integers(0, 64, picture.shape, np.uint8),
            )
            images.append(image | dict(id=number, file_name=name))
            annotations += [
                box | dict(id=2 * box["id"] + twin, image_id=number)
                for box in content["annotations"]
                if box["image_id"] == image["id"]
            ]
    file.write_text(json.dumps(content | dict(images=images, annotations=annotations)))


def twin_config(root: Path, work_dir: Path, method: str, ranks: int) -> Config:
    """RetinaNet by `method`; together the ranks see four pictures an iteration."""
    config = toy_config(root, work_dir, length=2, launcher="none" if ranks == 1 else "pytorch")
    data = config.train_dataloader.dataset.datasets[0]
    data.update(data_root=str(root), pipeline=[t for t in data.pipeline if t.type != "RandomFlip"])
    config.train_dataloader.dataset = data
    config.train_dataloader.batch_size = 4 // ranks
    config.train_dataloader.sampler.shuffle = False
    del config.train_dataloader["batch_sampler"]
    config.model.backbone.norm_cfg = dict(type="GN", num_groups=8)
    if method != "joint norm":
        config.model.backbone.update(type="NormalizedResNet", normalize=dict(form="WS"))
        shift = dict(lam=0.1, eps=0.1, include=None if method == "eps-shift" else "^backbone")
        config.optim_wrapper.update(
            constructor="EpsShiftOptimWrapperConstructor", paramwise_cfg=dict(eps_shift=shift)
        )
    if method != "eps-shift":
        where = None if method == "joint norm" else WHERE
        config.custom_hooks = [dict(type="NormFixHook", include=where)]
    return config


def run(root: Path, work_dir: Path, method: str, ranks: int = 1) -> dict:
    """Weights before and after training, and this rank's positives in every iteration."""
    runner = build_runner(twin_config(root, work_dir, method, ranks))
    model = getattr(runner.model, "module", runner.model)
    head, start, positives = model.bbox_head, {}, []
    get_targets = head.get_targets

    def watched(*args, **kwargs):
        if not start:  # initialized only when training starts
            start.update({k: v.clone() for k, v in model.state_dict().items()})
        targets = get_targets(*args, **kwargs)
        positives.append(int(targets[-1]))
        return targets

    head.get_targets = watched
    runner.train()
    fixes = [hook.norm_fix for hook in runner.hooks if hasattr(hook, "norm_fix")]
    return dict(
        start=start,
        end=model.state_dict(),
        positives=positives,
        norms=[(float(fix.joint_norm()), float(fix.target)) for fix in fixes],
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    root, work_dir = map(Path, sys.argv[1:3])
    found = {method: run(root, work_dir / method, method, 2) for method in METHODS}
    torch.save(found, work_dir / f"rank{torch.distributed.get_rank()}.pth")
