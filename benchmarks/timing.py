"""Interleaved timing: all rows of a table in one run, so that drift hits all alike."""

import statistics
import time
from collections.abc import Callable

import torch


def interleaved(
    functions: dict[str, Callable[[], object]], repeats: int, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each function over `repeats` rounds, after two rounds of warm-up.

    Each round runs every function once, in an order that rotates, because what ran before decides
    what is in the caches.
    """
    names = list(functions)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + 2):
        for k in range(len(names)):
            name = names[(turn + k) % len(names)]
            _synchronize(device)
            start = time.perf_counter()
            result = functions[name]()
            _synchronize(device)
            elapsed = time.perf_counter() - start
            del result  # freeing is not what is measured
            if turn >= 2:
                times[name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def machine(device: str) -> str:
    """The kind of machine in words, for the heading of a table."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{torch.get_num_threads()} CPU cores, torch {torch.__version__}"


def count_synchronizations(function: Callable[[], object]) -> int:
    """How often `function` makes the host wait for the GPU (torch's own detection)."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in caught)


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
