"""Iterations of the Cityscapes configs as shipped, by the real Runner: time and peak memory.

    PYTHONPATH=. python benchmarks/oc_train_iterations.py [CONFIG ...] [--iterations 2] [--crop 769]

Without a name the polynomial baseline and FixNorm of Table 3. One GPU's share, batch 2, from random
weights, on images of 1024×2048 pixels that are made up, or on those of a prepared --folder. Each
config has a process of its own; the peak is that of the whole process (on a GPU, of its tensors).
An iteration is forward, backward and step; FixNorm's check before the first is not in it.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from timing import machine

CONFIGS = Path(__file__).parents[1] / "configs/ocnet"
TABLE_3 = (
    "ocnet-base_r101-d8_baseline_4xb2-40k_cityscapes-769x769",
    "ocnet-base_r101-d8_fixnorm_4xb2-40k_cityscapes-769x769",
)


class Clock(Hook):
    """Seconds of each iteration."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        self.start = time.perf_counter()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)


def make_up(root: Path, count: int = 4) -> None:
    """Images and labels of Cityscapes' size, 32-pixel blocks of one class and colour each."""
    random = np.random.default_rng(0)
    images, labels = root / "leftImg8bit/train/nowhere", root / "gtFine/train/nowhere"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for i in range(count):
        classes = random.integers(0, 20, (32, 64)).repeat(32, 0).repeat(32, 1)
        pixels = 12 * classes[..., None] + random.integers(0, 20, (1024, 2048, 3))
        classes[classes == 19] = 255
        name = f"nowhere_{i:06}_000019"
        Image.fromarray(pixels.astype(np.uint8)).save(images / f"{name}_leftImg8bit.png")
        path = labels / f"{name}_gtFine_labelTrainIds.png"
        Image.fromarray(classes.astype(np.uint8)).save(path)


def train(path: Path, root: str, iterations: int, crop: int, work_dir: str) -> None:
    cfg = Config.fromfile(path)
    loader = cfg.train_dataloader
    loader.dataset.data_root = root
    loader.update(num_workers=0, persistent_workers=False)
    next(s for s in loader.dataset.pipeline if s.type == "RandomCrop").crop_size = (crop, crop)
    cfg.model.data_preprocessor.size = (crop, crop)
    cfg.model.backbone.init_cfg = None
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=10**9)
    for phase in ("val", "test"):
        cfg.update({f"{phase}_{part}": None for part in ("dataloader", "cfg", "evaluator")})
    cfg.default_hooks.checkpoint = None
    cfg.work_dir, cfg.log_level, cfg.randomness = work_dir, "ERROR", dict(seed=0)
    runner = Runner.from_cfg(cfg)
    clock = Clock()
    runner.register_hook(clock, "LOWEST")
    runner.train()
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 1e9
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9
    seconds = ", ".join(f"{each:.1f}" for each in clock.seconds)
    print(f"| {path.stem} | {seconds} | {peak:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=TABLE_3, help="names in configs/ocnet")
    parser.add_argument("--folder", help="a prepared Cityscapes folder instead of made-up images")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--crop", type=int, default=769)
    parser.add_argument("--work-dir", help=argparse.SUPPRESS)  # set for the process of a config
    args = parser.parse_args()
    if args.work_dir:
        path = CONFIGS / f"{args.configs[0]}.py"
        train(path, args.folder, args.iterations, args.crop, args.work_dir)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{machine(device)}; batch 2, crop {args.crop}²\n")
    print("| config | s of each iteration | peak GB |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as work_dir:
        folder = args.folder
        if folder is None:
            make_up(Path(folder := f"{work_dir}/cityscapes"))
        for name in args.configs:
            command = [sys.executable, __file__, name, "--folder", folder, "--work-dir", work_dir]
            command += ["--iterations", str(args.iterations), "--crop", str(args.crop)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
            print(next(line for line in done.stdout.splitlines() if line.startswith(f"| {name}")))


if __name__ == "__main__":
    main()
