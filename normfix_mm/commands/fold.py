"""Fold a trained model: ``normfix fold CONFIG CHECKPOINT OUT [--image PATH] [--onnx]``.

OUT becomes a folder with a stock config and a stock checkpoint, which MMDetection or MMSegmentation
loads without this package; with --onnx also the whole model for onnxruntime. Each is run on a real
image first and the differences are printed; if they are too large, nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from normfix_mm.run import command_line as cli


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    parser = cli.Parser(prog=prog, description="Fold a model into a stock config and checkpoint")
    cli.add_config(parser)
    parser.add_argument("checkpoint", type=Path, help="checkpoint file")
    parser.add_argument("out", type=Path, help="folder to make")
    cli.add_trust(parser)
    parser.add_argument("--image", type=Path, help="image to compare both models on")
    parser.add_argument("--onnx", action="store_true", help="write an ONNX file of the whole, too")
    args = parser.parse_args(arguments)
    from normfix_mm.export.fold_out import fold_out

    cfg = cli.read_config(args.config, args.cfg_options, args.row)
    print("\n".join(fold_out(cfg, args.checkpoint, args.out, args.image, args.onnx)))
