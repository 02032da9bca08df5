"""Command lines of ``tools/train.py`` and ``tools/test.py``: MMDetection's flags, checked first.

Several processes run on GPUs as in MMDetection, and without a GPU over gloo, to try a setup out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import timedelta

from . import preflight


def parser(description: str) -> argparse.ArgumentParser:
    """Arguments that training and testing share."""
    arguments = argparse.ArgumentParser(description=description)
    add_config(arguments)
    arguments.add_argument("--work-dir", help="folder for logs, checkpoints and results")
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


def add_config(arguments: argparse.ArgumentParser) -> None:
    """The arguments of :func:`read_config`."""
    from mmengine.config import DictAction

    arguments.add_argument("config", help="config file")
    arguments.add_argument(
        "--cfg-options",
        nargs="+",
        type=_setting,
        action=DictAction,
        metavar="KEY=VALUE",
        help="change settings of the config, for example optim_wrapper.optimizer.lr=0.02",
    )


def _setting(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} gives no value; write KEY=VALUE, for example train_cfg.max_epochs=2."
        )
    return text


def load_config(args: argparse.Namespace):
    """The config with ``--cfg-options``, ``--launcher`` and ``--work-dir`` merged in.

    Raises:
        BadInput: If the file is absent or is not a config.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    name = os.path.splitext(os.path.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or os.path.join("work_dirs", name)
    return cfg


def read_config(path: str, options: dict | None = None):
    """The config file with the changes of ``--cfg-options``.

    Raises:
        BadInput: If the file is absent or is not a config.
    """
    from mmengine.config import Config

    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:
        raise preflight.BadInput(
            f"The config {path!r} or a base of it does not exist ({error}); see configs/ "
            "for those there are."
        ) from None
    except (ImportError, SyntaxError, OSError) as error:
        raise preflight.BadInput(
            f"The config {path!r} cannot be read ({type(error).__name__}: {error}); correct "
            "it or install what its custom_imports name."
        ) from None
    cfg.merge_from_dict(options or {})
    return cfg


def build_runner(cfg):
    """Runner of the config, of its ``runner_type`` where it names one.

    Raises:
        BadInput: Several processes without a GPU, by another launcher than torchrun.
    """
    from mmdet.utils import setup_cache_size_limit_of_dynamo
    from mmengine.device import get_device
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    setup_cache_size_limit_of_dynamo()
    if cfg.launcher != "none" and get_device() == "cpu":
        _join_on_cpu(cfg)
    return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


def _join_on_cpu(cfg) -> None:
    """Start the process group over gloo and wrap the model for it: mmengine asks for GPUs in both.

    The Runner finds the group started and leaves it alone. Writes ``cfg.model_wrapper_cfg`` and
    ``cfg.sync_bn``.
    """
    from mmengine.registry import MODEL_WRAPPERS
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    if cfg.launcher != "pytorch" or "RANK" not in os.environ:
        raise preflight.BadInput(
            f"--launcher {cfg.launcher}: without a GPU the processes must be started by torchrun "
            "(bash tools/dist_train.sh CONFIG PROCESSES); or leave --launcher out."
        )
    if not distributed.is_initialized():
        timeout = cfg.get("env_cfg", {}).get("dist_cfg", {}).get("timeout")  # seconds
        distributed.init_process_group("gloo", timeout=timeout and timedelta(seconds=timeout))
    wrapper = cfg.get("model_wrapper_cfg") or dict(
        broadcast_buffers=False,  # as mmengine's own default
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    wrapper.setdefault("type", "MMDistributedDataParallel")
    if issubclass(MODEL_WRAPPERS.get(wrapper["type"]), DistributedDataParallel):
        wrapper.setdefault("device_ids", None)
    cfg.model_wrapper_cfg = wrapper
    cfg.sync_bn = None  # needs GPUs


def run(main: Callable[[], None]) -> None:
    """Call ``main``; end with one sentence and status 1 on bad input, with no traceback."""
    try:
        preflight.check_stack()
        main()
    except preflight.BadInput as error:
        sys.exit(f"error: {error}")
