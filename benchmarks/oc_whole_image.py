"""A whole 1024×2048 image through the ResNet-101 OCNet: time and peak memory.

    PYTHONPATH=. python benchmarks/oc_whole_image.py [--context base] [--size 1024x2048]

Evaluation as on Cityscapes: one scale, no flip, the whole image at once, logits at full size.
"""

import argparse

import torch
from memory import measured, return_freed_memory
from timing import machine

from normfix_mm.segmentation import DilatedResNetV1c, OCHead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--context", default="base", choices=("base", "asp", "pyramid"))
    parser.add_argument("--size", default="1024x2048")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.device == "cpu":
        return_freed_memory()
    size = tuple(map(int, args.size.split("x")))
    backbone = DilatedResNetV1c().to(args.device)
    backbone.eval()  # MMSegmentation's returns nothing
    head = OCHead(
        context=args.context, num_classes=19, loss_decode=dict(type="WeightedCrossEntropyLoss")
    )
    head = head.to(args.device).eval()
    image = torch.randn(1, 3, *size, device=args.device)

    @torch.no_grad()
    def predict() -> None:
        logits = head.predict(backbone(image), [dict(img_shape=size)], None)
        logits.argmax(1)

    seconds, peak = measured(predict, args.device)
    print(
        f"{machine(args.device)}; R-101 {args.context}, {args.size}: {seconds:.1f} s, peak", end=" "
    )
    print(f"{peak:.0f} MB beside the weights and the image")


if __name__ == "__main__":
    main()
