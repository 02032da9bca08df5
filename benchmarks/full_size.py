"""Time of one training iteration of the full-size configs against MMDetection's own.

    PYTHONPATH=. python benchmarks/full_size.py [--size 1333 800] [--device cuda] [--amp float16]

Two made-up images, the whole `train_step` with the step hooks, all configs interleaved. On CUDA
also kernels launched, host synchronizations (stock configs have them too) and the peak of memory
beyond what is held between iterations.

Goals: RetinaNet with FixNorm at most 1.03 times stock on two CPU cores at 512², 1.10 on a GPU;
Cascade R-CNN with WS and ε-shift 1.05 on a GPU.
"""

import argparse

import torch
from detectors import OURS, iteration, ours, stock
from timing import count_synchronizations, interleaved, machine
from torch.profiler import ProfilerActivity, profile


def launches(train) -> int:
    """Kernels that one call starts on the GPU."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        train()
        torch.cuda.synchronize()
    return sum(e.count for e in record.key_averages() if "LaunchKernel" in e.key)


def peak_gigabytes(train) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    train()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=OURS, help="names below configs/")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("W", "H"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", choices=("float16", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    cuda = args.device == "cuda"
    width, height = args.size
    print(
        f"{machine(args.device)}; 2 images of {width}×{height}, {args.amp or 'float32'};", end=" "
    )
    print(f"medians of {args.repeats}\n")
    print("| config | ms | / stock |" + (" kernels | synchronizations | peak GB |" if cuda else ""))
    print("|---|---|---|" + ("---|---|---|" if cuda else ""))
    for family in dict.fromkeys(name.partition("/")[0] for name in args.configs):
        names = [name for name in args.configs if name.startswith(family)]
        configs = {f"MMDetection's {family}": stock(names[0])}
        configs |= {name.partition("/")[2]: ours(name) for name in names}
        work = {n: iteration(c, (width, height), args.device, args.amp) for n, c in configs.items()}
        seconds = interleaved(work, args.repeats, args.device)
        plain = next(iter(seconds.values()))
        for name, value in seconds.items():
            row = f"| {name} | {1e3 * value:.1f} | {value / plain:.3f} |"
            if cuda:
                train = work[name]
                waits = count_synchronizations(train)
                row += f" {launches(train)} | {waits} | {peak_gigabytes(train):.2f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
