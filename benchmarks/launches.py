"""Operators that a training iteration dispatches, ours against MMDetection's own config's.

    PYTHONPATH=. python benchmarks/launches.py [CONFIG ...]

What an iteration costs on a GPU beside its arithmetic is the number of kernels it starts and the
Python between them. Both can be counted without a GPU: full-size models, two images of 64², one
whole `train_step` with the step hooks, which run a GPU's kernels here. Views and empty tensors
start no kernel and are not counted; a normalization is one operator in each direction, as it is one
kernel in Triton.

Goal: RetinaNet with FixNorm at most 1.15 times the stock config's operators.
"""

import argparse
import cProfile
import pstats
from collections import Counter
from unittest import mock

import torch
from detectors import OURS, iteration, ours, stock
from mmengine.config import Config
from torch.utils._python_dispatch import TorchDispatchMode

from normfix_mm.kernels import devices

SIZE = (64, 64)


class Operators(TorchDispatchMode):
    """Counts the operators that start a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returns = func._schema.returns
        view = returns and all(r.alias_info and not r.alias_info.is_write for r in returns)
        if not view and "empty" not in func._schema.name:
            self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operators(cfg: Config) -> Counter[str]:
    """Operators of one iteration by name, after one that makes the optimizer's state."""
    train = iteration(cfg, SIZE, foreach=True)
    train()
    with mock.patch.object(devices, "few_kernels", return_value=True), Operators() as mode:
        train()
    return mode.calls


def python_calls(cfg: Config) -> int:
    """Functions that Python calls in one iteration, its own and torch's."""
    train = iteration(cfg, SIZE, foreach=True)
    train()
    profile = cProfile.Profile()
    profile.runcall(train)
    return sum(calls for _, calls, *_ in pstats.Stats(profile).stats.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=OURS, help="names below configs/")
    args = parser.parse_args()
    print(f"two images of 64², torch {torch.__version__}\n")
    print("| config | operators | / stock | Python calls | / stock |\n|---|---|---|---|---|")
    known: dict[str, tuple[int, int]] = {}
    for name in args.configs:
        family, _, short = name.partition("/")
        if family not in known:
            cfg = stock(name)
            count, calls = known[family] = operators(cfg).total(), python_calls(cfg)
            print(f"| MMDetection's {family} | {count} | 1.00 | {calls} | 1.00 |")
        count, calls = operators(ours(name)).total(), python_calls(ours(name))
        ratios = count / known[family][0], calls / known[family][1]
        print(f"| {short} | {count} | {ratios[0]:.2f} | {calls} | {ratios[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
