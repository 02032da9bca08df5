"""What the ε-shift and norm fixing add to an optimizer step, on ResNet-50's 161 parameters.

    PYTHONPATH=. python benchmarks/optimizer_step.py [--device cuda] [--repeats 31] [--threads 2]

Needs only torch. Goal: together at most 0.8 of a plain SGD step. Two measures: the hooks alone, and
what a whole step costs more than a plain one, since either method takes the place of the decay that
the plain step computes. On CUDA the host synchronizations are counted too; ours must have none.
On Linux the C library is told to keep freed memory: in training the step finds that of the
activations, and getting new memory from the system would take as long as the step.
"""

import argparse
import sys
from collections.abc import Callable

import torch
from memory import keep_freed_memory
from resnet50_shapes import conv_shapes, linear_shapes, norm_shapes
from timing import count_synchronizations, interleaved, machine
from torch import nn

from normfix_mm import EpsShift, NormFix, WSConv2d
from normfix_mm.analysis import steps
from normfix_mm.optim.weights import norm_fix_weights

LAM, EPS = 1e-4, 1e-3


def build(device: str) -> nn.Module:
    """The parameters of ResNet-50 with gradients, its convolutions standardized."""
    model = nn.Module()
    convs = [
        WSConv2d(inp, out, kernel, bias=False, device=device)
        for out, inp, kernel, _ in conv_shapes()
    ]
    model.convs = nn.ModuleList(convs)
    others = [torch.rand(shape, device=device) for shape in norm_shapes() + linear_shapes()]
    model.others = nn.ParameterList(others)
    for p in model.parameters():
        p.grad = 1e-3 * torch.randn_like(p)
    return model


def loop_over_tensors(weights: list[torch.Tensor]) -> None:
    """The WS regularizer as one writes it down: layer after layer, as in the authors' code."""
    for p in weights:
        w = p.flatten(1)
        mean, std = w.mean(1, keepdim=True), w.std(1, keepdim=True)
        p.grad.add_(((1 - EPS / std) * (w - mean) + mean).view_as(p), alpha=LAM)


def foreach_fix(weights: list[torch.Tensor], target: float) -> None:
    """Norm fixing on top of torch's own foreach norm."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(weights)))
    torch._foreach_mul_(weights, target / norm)


def reading(model: nn.Module) -> list[torch.Tensor | None]:
    """What NormMonitorHook does around a step that it looks at."""
    infos = norm_fix_weights(model)
    params = [info.param for info in infos]
    before = [p.detach().clone() for p in params]
    leaning = steps.leaning([p.grad for p in params], params)
    return [leaning, *steps.turns(before, params), *map(steps.smallest_filter, infos)]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=31)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no usable GPU: run with --device cpu.")
    if args.device == "cpu":
        keep_freed_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    models = [build(args.device) for _ in range(3)]
    weights = [layer.weight for layer in models[0].convs]
    # A small rate: the rows that change gradients and weights many times over must not overflow.
    plain, shifted, fixed = (
        torch.optim.SGD(
            [
                {"params": [layer.weight for layer in model.convs], "weight_decay": decay},
                {"params": list(model.others), "weight_decay": 1e-4},
            ],
            lr=1e-6,
            momentum=0.9,
        )
        for model, decay in zip(models, (1e-4, 0.0, 0.0))
    )
    shift, fix = EpsShift(shifted, models[1], LAM, EPS), NormFix(fixed, models[2])
    target = float(fix.target)

    # The hooks are called alone, as the optimizer calls them.
    rows: dict[str, Callable[[], object]] = {
        "SGD step (momentum, decay)": plain.step,
        "ε-shift hook": lambda: (
            shift._before_step(shifted, (), {}),
            shift._after_step(shifted, (), {}),
        ),
        "norm-fix hook": lambda: fix._after_step(fixed, (), {}),
        "whole step with the ε-shift": shifted.step,
        "whole step with norm fixing": fixed.step,
        "a reading of NormMonitorHook, one step in 50": lambda: reading(models[1]),
        "peer: regularizer, loop over tensors": lambda: loop_over_tensors(weights),
        "peer: joint norm by foreach": lambda: torch._foreach_norm(weights),
        "peer: norm fixing by foreach": lambda: foreach_fix(weights, target),
    }
    seconds = interleaved(rows, args.repeats, args.device)
    step = seconds["SGD step (momentum, decay)"]
    seconds["ε-shift + norm fixing, hooks alone"] = (
        seconds["ε-shift hook"] + seconds["norm-fix hook"]
    )
    seconds["ε-shift + norm fixing, whole steps less plain ones"] = (
        seconds["whole step with the ε-shift"] + seconds["whole step with norm fixing"] - 2 * step
    )
    cuda = args.device == "cuda"
    print(f"{machine(args.device)}; medians of {args.repeats}\n")
    print("| | ms | / SGD step |" + (" host synchronizations |" if cuda else ""))
    print("|---|---|---|" + ("---|" if cuda else ""))
    for name, value in seconds.items():
        waits = f" {count_synchronizations(rows[name])} |" if cuda and name in rows else ""
        print(f"| {name} | {1e3 * value:.2f} | {value / step:.2f} |{waits}")


if __name__ == "__main__":
    main()
