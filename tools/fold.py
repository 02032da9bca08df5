"""Fold a trained model: ``python tools/fold.py CONFIG CHECKPOINT OUT [--image PATH] [--onnx]``.

OUT becomes a folder with a stock config and a stock checkpoint, which MMDetection or MMSegmentation
loads without this package; with --onnx also the whole model for onnxruntime. Each is run on a real
image first and the differences are printed; if they are too large, nothing is written.
"""

import argparse
import os
import signal
from pathlib import Path

if __name__ == "__main__":
    # A Ctrl-C while the imports take their seconds needs no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Threads that wait soon give their core away: beside another job each would hold the others up.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from normfix_mm.run import command_line as cli


def main() -> None:
    parser = argparse.ArgumentParser(description="Fold a model into a stock config and checkpoint")
    cli.add_config(parser)
    parser.add_argument("checkpoint", type=Path, help="checkpoint file")
    parser.add_argument("out", type=Path, help="folder to make")
    cli.add_trust(parser)
    parser.add_argument("--image", type=Path, help="image to compare both models on")
    parser.add_argument("--onnx", action="store_true", help="write an ONNX file of the whole, too")
    args = parser.parse_args()
    from normfix_mm.export.fold_out import fold_out

    cfg = cli.read_config(args.config, args.cfg_options, args.row)
    print("\n".join(fold_out(cfg, args.checkpoint, args.out, args.image, args.onnx)))


if __name__ == "__main__":
    cli.run(main)
