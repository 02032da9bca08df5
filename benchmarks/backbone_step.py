"""A training step of a ResNet-50 backbone whose convolutions are plain or standardized.

    PYTHONPATH=. python benchmarks/backbone_step.py [--size 256] [--batch 2] [--device cuda]

Goals on two CPU cores: at 256 pixels no dearer than the cheapest peer and at most 1.05 times plain,
at 512 at most 1.02 times; on a GPU at most 1.02.
"""

import argparse
from collections.abc import Callable

import torch
from standardizations import STANDARDIZATIONS
from timing import interleaved, machine
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from normfix_mm import WNConv2d, WSConv2d


def conv_class(standardization: Callable[[Tensor], Tensor]) -> type[nn.Conv2d]:
    class Standardized(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, standardization(self.weight), self.bias)

    return Standardized


class Bottleneck(nn.Module):
    def __init__(self, conv, channels: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            *block(conv, channels, width, 1),
            nn.ReLU(inplace=True),
            *block(conv, width, width, 3, stride),
            nn.ReLU(inplace=True),
            *block(conv, width, out, 1),
        )
        same = stride == 1 and channels == out
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*block(conv, channels, out, 1, stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def block(conv, channels: int, out: int, size: int, stride: int = 1) -> list[nn.Module]:
    return [
        conv(channels, out, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(out),
    ]


def resnet50(conv) -> nn.Sequential:
    layers = [*block(conv, 3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for index in range(count):
            stride = 2 if stage and index == 0 else 1
            layers.append(Bottleneck(conv, channels, width, stride))
            channels = 4 * width
    return nn.Sequential(*layers)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    optimizer.zero_grad()
    model(images).square().mean().backward()
    optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    convs = {"plain": nn.Conv2d, "WSConv2d (ours)": WSConv2d}
    convs |= {
        name: conv_class(function)
        for name, function in STANDARDIZATIONS.items()
        if "ours" not in name
    }
    convs |= {
        "WNConv2d (ours)": WNConv2d,
        "torch weight_norm": lambda *a, **k: weight_norm(nn.Conv2d(*a, **k)),
    }
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    work = {}
    for name, conv in convs.items():
        torch.manual_seed(0)
        model = resnet50(conv).to(args.device).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
        work[name] = lambda m=model, o=optimizer: step(m, o, images)
    seconds = interleaved(work, args.repeats, args.device)

    print(f"{machine(args.device)}; {args.batch}×3×{args.size}²; medians of {args.repeats}\n")
    print("| convolutions | ms | / plain |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value * 1e3:.0f} | {value / seconds['plain']:.3f} |")


if __name__ == "__main__":
    main()
