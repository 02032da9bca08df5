"""Train a model: ``normfix train CONFIG``, with OpenMMLab's flags.

Paths, classes and checkpoints are checked before anything is trained (``normfix_mm.preflight``).
"""

from __future__ import annotations

from collections.abc import Sequence

from normfix_mm.errors import BadInput
from normfix_mm.run import command_line as cli
from normfix_mm.run.training import train


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    parser = cli.parser("Train a detector, a segmenter or a classifier", prog)
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate to the batch size in use",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from this checkpoint, or from the latest of the work dir",
    )
    args = parser.parse_args(arguments)
    cfg = cli.load_config(args)
    if args.amp:
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
    if args.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise BadInput(
                "--auto-scale-lr needs the batch size that the learning rate was chosen for; add "
                "auto_scale_lr=dict(base_batch_size=16) or the like to the config."
            )
        cfg.auto_scale_lr.enable = True
    resume = args.resume if args.resume != "auto" else True
    train(cfg, resume or False, contents=not args.skip_data_check)
