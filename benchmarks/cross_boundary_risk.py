"""Mean cross-boundary risk at ImageNet's size: 100 000 samples × 1000 classes × 2048 features.

    PYTHONPATH=. python benchmarks/cross_boundary_risk.py

Prints time and the process's peak memory, inputs (0.8 GB) and libraries included. Goal: 2 GiB.
"""

import resource
import time

import torch

from normfix_mm import mean_cross_boundary_risk


def main() -> None:
    torch.manual_seed(0)
    features = torch.randn(100_000, 2048)
    labels = torch.randint(1000, (100_000,))
    weight = torch.randn(1000, 2048)
    start = time.perf_counter()
    risk = mean_cross_boundary_risk(features, labels, weight)
    elapsed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(risk)} risks in {elapsed:.1f} s, peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
