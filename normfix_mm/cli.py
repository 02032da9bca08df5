"""Command lines of ``tools/train.py`` and ``tools/test.py``: MMDetection's flags, checked first."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from . import preflight


def parser(description: str) -> argparse.ArgumentParser:
    """Arguments that training and testing share."""
    from mmengine.config import DictAction

    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("config", help="config file")
    arguments.add_argument("--work-dir", help="folder for logs, checkpoints and results")
    arguments.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="change settings of the config, for example optim_wrapper.optimizer.lr=0.02",
    )
    arguments.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="how the processes of a distributed run were started",
    )
    arguments.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by launchers, not by hand"
    )
    return arguments


def load_config(args: argparse.Namespace):
    """The config with ``--cfg-options``, ``--launcher`` and ``--work-dir`` merged in.

    Raises:
        BadInput: If the file is absent or is not a config.
    """
    from mmengine.config import Config

    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    try:
        cfg = Config.fromfile(args.config)
    except FileNotFoundError as error:
        raise preflight.BadInput(
            f"The config {args.config!r} or a base of it does not exist ({error}); see configs/ "
            "for those there are."
        ) from None
    except (ImportError, SyntaxError, OSError) as error:
        raise preflight.BadInput(
            f"The config {args.config!r} cannot be read ({type(error).__name__}: {error}); correct "
            "it or install what its custom_imports name."
        ) from None
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    name = os.path.splitext(os.path.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or os.path.join("work_dirs", name)
    return cfg


def build_runner(cfg):
    """Runner of the config, of its ``runner_type`` where it names one."""
    from mmdet.utils import setup_cache_size_limit_of_dynamo
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    setup_cache_size_limit_of_dynamo()
    return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


def run(main: Callable[[], None]) -> None:
    """Call ``main``; end with one sentence and status 1 on bad input, with no traceback."""
    try:
        preflight.check_stack()
        main()
    except preflight.BadInput as error:
        sys.exit(f"error: {error}")
