"""Normalize ResNet-50's 53 convolution weights (94 MB), forward and backward.

    PYTHONPATH=. python benchmarks/weights_alone.py [--device cuda] [--repeats 15]

Goals on two CPU cores: WS, by the authors' exact formula, at no more than 1.2 times F.layer_norm,
WN at no more than 1.0; on a GPU both 1.0. WN trains a gain for each filter here.
"""

import argparse

import torch
from resnet50_shapes import conv_shapes
from standardizations import STANDARDIZATIONS, multiply
from timing import interleaved, machine

from normfix_mm.layers.functional import center_normalize, normalize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.manual_seed(0)
    weights = [torch.randn(s, device=args.device).mul_(0.02) for s in conv_shapes()]
    weights = [w.requires_grad_() for w in weights]
    grads = [torch.randn_like(w) for w in weights]

    gains = {w: torch.ones(len(w), device=args.device).requires_grad_() for w in weights}
    rows = STANDARDIZATIONS | {
        "WNConv2d (ours)": lambda w: normalize(w, gains[w]),
        "CWNConv2d (ours)": center_normalize,
        "torch weight_norm": lambda w: torch._weight_norm(w, gains[w].view(-1, 1, 1, 1), 0),
        "multiplication by a constant": multiply,
    }
    outputs = {name: [f(w) for w in weights] for name, f in rows.items()}
    work = {}
    for name, function in rows.items():
        work[name, "forward"] = lambda f=function: [f(w) for w in weights]
        work[name, "backward"] = lambda o=outputs[name]: torch.autograd.grad(
            o, weights, grads, retain_graph=True
        )
    seconds = interleaved(work, args.repeats, args.device)

    reference = seconds["F.layer_norm", "forward"] + seconds["F.layer_norm", "backward"]
    print(f"{machine(args.device)}; medians of {args.repeats}\n")
    print("| | forward ms | backward ms | sum / F.layer_norm |\n|---|---|---|---|")
    for name in rows:
        forward, backward = seconds[name, "forward"], seconds[name, "backward"]
        ratio = (forward + backward) / reference
        print(f"| {name} | {forward * 1e3:.1f} | {backward * 1e3:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
