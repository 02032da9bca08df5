"""What the commands share: OpenMMLab's flags, reading a config, how they are run."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from normfix import Parser
from normfix_mm.checkpoints.safe_load import trust, weights_only
from normfix_mm.datasets.config import drop_workers_options
from normfix_mm.errors import BadInput, one_line
from normfix_mm.preflight.stack import check_stack
from normfix_mm.run import ending
from normfix_mm.run.rows import choose_row
from normfix_mm.run.settings import check_settings
from normfix_mm.run.weights import provide_weights

# An installed package has its configs in there; a checkout has them in its root.
CARRIED = Path(__file__).resolve().parents[1] / ".mim"


def parser(description: str, prog: str | None = None, optional_config: bool = False) -> Parser:
    """Arguments that training and testing share."""
    arguments = Parser(prog=prog, description=description)
    add_config(arguments, optional_config)
    arguments.add_argument("--work-dir", help="folder for logs, checkpoints and results")
    arguments.add_argument(
        "--skip-data-check",
        action="store_true",
        help="do not look into annotation files, pictures and label files before starting",
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
    add_trust(arguments)
    return arguments


def add_trust(arguments: argparse.ArgumentParser) -> None:
    """``--trust-checkpoint``, which takes effect as it is read."""

    class Trust(argparse.Action):
        def __call__(self, parser, namespace, value, option=None):
            trust([value])

    arguments.add_argument(
        "--trust-checkpoint",
        action=Trust,
        metavar="FILE",
        help="let this file run code while it is loaded, as pickles of old can; may be repeated",
    )


def add_training(arguments: argparse.ArgumentParser) -> None:
    """The arguments of :func:`set_training`."""
    arguments.add_argument("--amp", action="store_true", help="automatic mixed precision")
    arguments.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate to the batch size in use",
    )


def set_training(cfg, args: argparse.Namespace) -> None:
    """``--amp`` and ``--auto-scale-lr`` as settings of the config.

    Raises:
        BadInput: If the config does not say for which batch its rate is.
    """
    if args.amp:
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
        optimizer = cfg.optim_wrapper.get("optimizer") or {}
        if optimizer.get("type") == "SGD" and optimizer.get("fused"):
            optimizer.fused = False  # the preflight says why
    if args.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise BadInput(
                "--auto-scale-lr needs the batch size that the learning rate was chosen for; add "
                "auto_scale_lr=dict(base_batch_size=16) or the like to the config."
            )
        cfg.auto_scale_lr.enable = True


def add_config(arguments: argparse.ArgumentParser, optional: bool = False) -> None:
    """The arguments of :func:`read_config`."""
    from mmengine.config import DictAction

    arguments.add_argument("config", help="config file", nargs="?" if optional else None)
    arguments.add_argument("--row", metavar="NAME", help="which row, of a config that is a table")
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
    cfg = read_config(args.config, args.cfg_options, args.row)
    cfg.launcher = args.launcher
    name = os.path.splitext(os.path.basename(args.config))[0]
    name = os.path.join(name, args.row) if args.row else name
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or os.path.join("work_dirs", name)
    provide_weights(cfg)
    drop_workers_options(cfg)
    return cfg


def read_config(path: str, options: dict | None = None, row: str | None = None):
    """The config file, or that of a row of it, with the changes of ``--cfg-options``.

    A `configs/…` that is not there is that of the installed package.

    Raises:
        BadInput: If the file is absent, is not a config, or has no such row; or an option that
            nothing reads.
    """
    from mmengine.config import Config

    try:
        carried = CARRIED / path
        here = os.path.exists(path) or not carried.is_file()
        cfg = Config.fromfile(path if here else str(carried))
    except FileNotFoundError as error:
        raise BadInput(
            f"The config {path!r} or a base of it does not exist ({error}); see configs/ "
            "for those there are."
        ) from None
    except Exception as error:  # a config is a program, and may end in any of them
        raise BadInput(
            f"The config {path!r} cannot be read ({type(error).__name__}: {one_line(error)}); "
            "correct it or install what its custom_imports name."
        ) from None
    choose_row(cfg, row)
    check_settings(cfg, options or {})
    try:
        cfg.merge_from_dict(options or {})
    except (TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
        raise BadInput(
            f"--cfg-options does not fit the config: {one_line(error)}; correct the names, or "
            "write a config with `_base_` of this one."
        ) from None
    return cfg


def command(main: Callable[[Sequence[str] | None, str | None], object]) -> Callable[..., None]:
    """Decorates a ``main(arguments, prog)`` so that it runs as :func:`run` says.

    Its arguments are those of the process by default, and `--help` calls it by the file's name.
    """

    @functools.wraps(main)
    def whole(arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
        run(lambda: main(arguments, prog))

    return whole


def run(main: Callable[[], object]) -> None:
    """Call ``main`` where checkpoints are never unpickled; end as ``ending`` says."""

    def checked() -> None:
        check_stack()
        from normfix_mm.run.console import without_noise

        with weights_only(), without_noise():
            main()

    ending.run(checked)
