"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``, with MMDetection's flags.

Paths, classes and the checkpoint are checked before anything runs (``normfix_mm.preflight``).
"""

from normfix_mm import cli, preflight

KEPT_META = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
)


def use_tta(cfg) -> None:
    """Wrap model and pipeline for test-time augmentation, with flips if the config says nothing."""
    dataset = cfg.test_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    if "tta_pipeline" not in cfg:
        views = [dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)]
        pack = [dict(type="PackDetInputs", meta_keys=KEPT_META)]
        cfg.tta_pipeline = [
            *dataset.pipeline[:-1],
            dict(type="TestTimeAug", transforms=[views, pack]),
        ]
    if "tta_model" not in cfg:
        nms = dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)
        cfg.tta_model = dict(type="DetTTAModel", tta_cfg=nms)
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(**cfg.tta_model, module=cfg.model)


def main() -> None:
    parser = cli.parser("Evaluate a detector")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--out", help="write the predictions to this .pkl file")
    parser.add_argument("--show", action="store_true", help="show the predictions in a window")
    parser.add_argument("--show-dir", help="write pictures of the predictions under this folder")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds between windows")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    args = parser.parse_args()
    if args.out and not args.out.endswith((".pkl", ".pickle")):
        raise preflight.BadInput(f"--out writes a pickle; {args.out!r} must end in .pkl.")
    cfg = cli.load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    preflight.check(cfg, ("test",), source=None)
    if args.show or args.show_dir:
        from mmdet.engine.hooks.utils import trigger_visualization_hook

        cfg = trigger_visualization_hook(cfg, args)
    if args.tta:
        use_tta(cfg)
    runner = cli.build_runner(cfg)
    if args.out:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()


if __name__ == "__main__":
    cli.run(main)
