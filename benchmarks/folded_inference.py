"""Inference of a folded detector against MMDetection's own, and against the unfolded one.

    PYTHONPATH=. python benchmarks/folded_inference.py [--size 800 608] [--device cuda]

RetinaNet-R50 with FixNorm, weight normalization in the backbone, pyramid and towers. The folded
model is built from the stock config that `tools/fold.py` writes, the stock model from MMDetection's
own config with random weights. Same image through backbone, neck and head; boxes are left out,
since their number depends on the weights. Goal: 1.00 within noise. The stock model stands in the
table twice: the second row's ratio is the noise. Below, both with BN fused into the convolutions
(mmcv's `fuse_conv_bn`), in half precision (bfloat16 on a CPU, float16 on a GPU), and with both;
there each ratio is to the stock model made ready in the same way.
"""

import argparse
import copy
from pathlib import Path

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from timing import interleaved, machine

import normfix_mm.detection  # noqa: F401  registers layers and heads
from normfix_mm import fold
from normfix_mm.export.stock_config import stock_config

STOCK = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
OURS = Path(__file__).parents[1] / "configs/retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco.py"


def build(model: dict, weights: dict | None = None) -> torch.nn.Module:
    built = MODELS.build(model).eval()
    if weights is not None:
        built.load_state_dict(weights, strict=True)
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(800, 608), metavar=("W", "H"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    cfg = Config.fromfile(OURS)
    with DefaultScope.overwrite_default_scope("mmdet"):
        stock = build(get_config(STOCK).model)
        unfolded = build(cfg.model)
        folded = build(stock_config(cfg).model, fold(unfolded).state_dict())
    half = torch.float16 if args.device == "cuda" else torch.bfloat16
    models = {"stock": stock, "stock again": stock, "folded": folded, "unfolded": unfolded}
    against = dict.fromkeys(models, "stock")
    for fused, kind in ((True, torch.float32), (False, half), (True, half)):
        words = ["fused"] * fused + [str(kind).removeprefix("torch.")] * (kind is half)
        for name, model in (("stock", stock), ("folded", folded)):
            row = ", ".join([name, *words])
            ready = copy.deepcopy(model)
            models[row] = (fuse_conv_bn(ready) if fused else ready).to(kind)
            against[row] = ", ".join(["stock", *words])
    image = torch.randn(1, 3, *reversed(args.size), device=args.device)
    with torch.no_grad():
        work = {}
        for name, model in models.items():
            model.to(args.device)
            given = image.to(next(model.parameters()).dtype)
            work[name] = lambda m=model, x=given: m(x)
        seconds = interleaved(work, args.repeats, args.device)
    width, height = args.size
    print(f"{machine(args.device)}; 1×3×{height}×{width}; medians of {args.repeats}\n")
    print("| model | ms | / stock, the same |\n|---|---|---|")
    for name, value in seconds.items():
        ratio = value / seconds[against[name]]
        print(f"| {name} | {value * 1e3:.1f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
