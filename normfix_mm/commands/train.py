"""Train a model: ``normfix train CONFIG``, with OpenMMLab's flags.

Paths, classes and checkpoints are checked before anything is trained (``normfix_mm.preflight``).
"""

from __future__ import annotations

from collections.abc import Sequence

from normfix_mm.run import command_line as cli
from normfix_mm.run.training import train


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    parser = cli.parser("Train a detector, a segmenter or a classifier", prog)
    cli.add_training(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from this checkpoint, or from the latest of the work dir",
    )
    args = parser.parse_args(arguments)
    cfg = cli.load_config(args)
    cli.set_training(cfg, args)
    resume = args.resume if args.resume != "auto" else True
    train(cfg, resume or False, contents=not args.skip_data_check)
