"""Evaluate a checkpoint: ``normfix test CONFIG CHECKPOINT``, with OpenMMLab's flags.

Paths, classes and the checkpoint are checked before anything runs (``normfix_mm.preflight``).
Of a segmenter, ``--out`` and ``--format-only`` write a PNG for each image; ``--format-only`` does
not evaluate and needs no labels. For Cityscapes' server:

    --format-only DIR --cfg-options test_dataloader.dataset.data_prefix.img_path=leftImg8bit/test
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from normfix_mm import preflight
from normfix_mm.errors import BadInput
from normfix_mm.run import command_line as cli
from normfix_mm.run import predictions
from normfix_mm.run.runner import build_runner


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    parser = cli.parser("Evaluate a detector, a segmenter or a classifier", prog)
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--out", help="write the predictions: a segmenter's to this folder, others' to this .pkl"
    )
    parser.add_argument(
        "--format-only",
        metavar="DIR",
        help="write a segmenter's predictions to this new folder and evaluate nothing",
    )
    parser.add_argument("--show", action="store_true", help="show the predictions in a window")
    parser.add_argument("--show-dir", help="write pictures of the predictions under this folder")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds between windows")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    args = parser.parse_args(arguments)
    cfg = cli.load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    segmenter = predictions.segments(cfg)
    check_flags(args, segmenter)
    folder = args.format_only or (args.out if segmenter else None)
    folder = os.path.normpath(folder) if folder else None  # without a slash at its end
    part = predictions.write_predictions(cfg, folder, bool(args.format_only)) if folder else None
    preflight.check(cfg, ("test",), source=None, contents=not args.skip_data_check)
    if args.show or args.show_dir:
        predictions.paint(cfg, args.show_dir, args.show, args.wait_time)
    if args.tta:
        predictions.use_tta(cfg)
    runner = build_runner(cfg)
    if folder:
        predictions.check_names(runner.test_loop.dataloader.dataset)
    if args.out and not segmenter:
        if predictions.classifies(cfg):
            from mmengine.evaluator import DumpResults
        else:
            from mmdet.evaluation import DumpDetResults as DumpResults

        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    try:
        runner.test()
    except BaseException:
        if part:  # incomplete, and in the way of the next try
            shutil.rmtree(part, ignore_errors=True)
        raise
    if folder:
        count = predictions.finish_predictions(part, folder)
        if count is not None:
            print(f"{count} predictions in {folder}")


def check_flags(args, segmenter: bool) -> None:
    """Raises BadInput for flags that do not go together, or with this kind of model."""
    if args.out and args.format_only:
        raise BadInput("Give --out or --format-only, not both.")
    if args.format_only and not segmenter:
        raise BadInput("--format-only is for segmenters; give --out FILE.pkl.")
    pickle = bool(args.out) and args.out.endswith((".pkl", ".pickle"))
    if args.out and not segmenter and not pickle:
        raise BadInput(f"--out writes a pickle; {args.out!r} must end in .pkl.")
    if args.out and segmenter and pickle:
        raise BadInput(
            f"--out of a segmenter is a folder of PNG files, not a file such as {args.out!r}."
        )
    if pickle:
        predictions.check_writable(args.out)
