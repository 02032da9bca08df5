"""The way from a torchvision ResNet-50 to a stock Mask R-CNN in docs/deployment.md.

The commands are read off the page and run in their order, in a folder where MMDetection's
``data/coco`` is a few small pictures; image size, length and the number of processes are all that
is changed. A random ResNet-50 under torchvision's names stands for its file.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.toy_coco import make_toy_coco
from mmdet.datasets import CocoDataset
from mmdet.models.backbones import ResNet

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "train_cfg.max_epochs=1",
    "train_dataloader.batch_size=1",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "train_dataloader.dataset.pipeline.2.scale=(96,64)",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "val_dataloader.dataset.pipeline.1.scale=(96,64)",
    "test_dataloader.num_workers=0",
    "test_dataloader.persistent_workers=False",
    "test_dataloader.dataset.pipeline.1.scale=(96,64)",
    # Two iterations detect nothing above .05, and then there is nothing to evaluate.
    "model.test_cfg.rcnn.score_thr=0.0",
]


@pytest.fixture(scope="module")
def commands() -> list[str]:
    page = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    block = re.search(r"```bash\n(.*?)```", page, re.DOTALL).group(1)
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def test_five_commands(commands, tmp_path):
    make_toy_coco(tmp_path / "data/coco", CocoDataset.METAINFO["classes"], n_images=2)
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    torch.manual_seed(0)
    resnet = ResNet(50, zero_init_residual=False).state_dict()
    torch.save(
        resnet | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)},
        tmp_path / "resnet50-0676ba61.pth",
    )
    name, *five = commands
    assert name.startswith("NAME=") and len(five) == 5
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    said = []
    for command in five:
        if "dist_train.sh" in command:
            command = command.replace("py 8 ", "py 1 ")
            assert "py 1 " in command
        if "tools/train" in command or "dist_train" in command or "tools/test" in command:
            command += " --cfg-options " + " ".join(map(shlex.quote, SMALL))
        if "fold.py" in command or "convert" in command or "Inferencer" in command:
            command = command.replace("IMAGE", "data/coco/val2017/000000000001.png")
        done = subprocess.run(
            ["bash", "-c", f"{name}\n{command}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
        said.append(done.stdout + done.stderr)
    assert "taken" in said[0] and "of the folded model" in said[3]
    stock = (tmp_path / "deployed/mask-rcnn_r50_fpn_fixnorm_8xb2-24e_coco.py").read_text()
    assert "normfix_mm." not in stock and "FixNorm" not in stock
    assert list((tmp_path / "outputs/vis").iterdir())
