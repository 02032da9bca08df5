"""What it saves that a frozen layer normalizes its weight once: MMDetection's ResNet-50, WS.

    PYTHONPATH=. python benchmarks/frozen_stages.py [--size 256] [--batch 2] [--device cuda]

Training steps with the first stage frozen, as detectors train, and with the whole backbone frozen,
where only the forward pass is left.
"""

import argparse
import copy

import torch
from timing import interleaved, machine

from normfix_mm.detection import NormalizedResNet


def step(model: torch.nn.Module, images: torch.Tensor) -> None:
    loss = sum(x.square().mean() for x in model(images))
    if loss.requires_grad:
        loss.backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    work = {}
    for stages in (1, 4):
        model = NormalizedResNet(
            depth=50, frozen_stages=stages, norm_eval=True, normalize=dict(form="WS")
        )
        # A copy keeps no normalized weights.
        for name, each in (("every time", copy.deepcopy(model)), ("once", model)):
            each.to(args.device).train()
            work[stages, name] = lambda m=each: step(m, images)
    seconds = interleaved(work, args.repeats, args.device)

    print(f"{machine(args.device)}; {args.batch}×3×{args.size}²; medians of {args.repeats}\n")
    print("| frozen stages | normalized | ms | / every time |\n|---|---|---|---|")
    for (stages, name), value in seconds.items():
        ratio = value / seconds[stages, "every time"]
        print(f"| {stages} of 4 | {name} | {value * 1e3:.0f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
