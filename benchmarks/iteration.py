"""Time of one training iteration of the configs in `configs/coco_folder`, on real images.

    PYTHONPATH=. python benchmarks/iteration.py FOLDER [--repeats 9]

FOLDER is in COCO format. The same batch again and again, through model, optimizer and step hooks.
"""

import argparse
import tempfile
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from timing import interleaved, machine

from normfix_mm.datasets.coco_folder import CocoFolder

CONFIGS = Path(__file__).parents[1] / "configs/coco_folder"


def iteration(config: Path, folder: str, work_dir: str):
    """A function that trains one iteration of this config, after the hooks' before_train."""
    cfg = CocoFolder(folder).use(Config.fromfile(config))
    cfg.work_dir, cfg.experiment_name, cfg.log_level = work_dir, config.stem, "ERROR"
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    runner = Runner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper.initialize_count_status(runner.model, 0, 1000)
    runner._init_model_weights()
    runner.call_hook("before_train")
    batch = next(iter(runner.train_dataloader))
    runner.model.train()
    return lambda: runner.model.train_step(batch, runner.optim_wrapper)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work_dir:
        work = {
            path.stem: iteration(path, args.folder, work_dir)
            for path in sorted(CONFIGS.glob("*.py"))
        }
        seconds = interleaved(work, args.repeats)
    plain = next(value for name, value in seconds.items() if "baseline" in name)
    print(f"{machine('cpu')}; medians of {args.repeats}\n")
    print("| config | s an iteration | / baseline |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.2f} | {value / plain:.2f} |")


if __name__ == "__main__":
    main()
