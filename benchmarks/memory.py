"""Time and peak memory of one piece of work, on the CPU by the kernel's count of resident pages."""

import os
import sys
import time
from collections.abc import Callable

import torch


def return_freed_memory() -> None:
    """Start this script again so that the C library gives back at once what is freed.

    Without it, memory that an earlier step has freed may serve a later one uncounted.
    """
    _again_with(MALLOC_MMAP_THRESHOLD_="65536")


def keep_freed_memory() -> None:
    """Start this script again so that the C library keeps what is freed for later use."""
    _again_with(MALLOC_MMAP_THRESHOLD_=str(1 << 30), MALLOC_TRIM_THRESHOLD_=str(1 << 34))


def _again_with(**options: str) -> None:
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.environ |= options
        os.execv(sys.executable, [sys.executable, *sys.argv])


def measured(function: Callable[[], object], device: str = "cpu") -> tuple[float, float]:
    """Seconds of a call, and the MB (10^6 bytes) it needs at its peak beyond what is held before.

    On the CPU this needs Linux's /proc.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the high-water mark starts anew
        before = _resident("VmRSS")
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")
    return seconds, (peak - before) / 1e6


def _resident(key: str) -> int:
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith(key)).split()[1])
