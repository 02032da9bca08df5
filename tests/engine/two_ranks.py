"""Runs a script in two processes under torchrun, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def two_ranks(
    script: Path, *arguments: object, timeout: float = 600, ranks: int = 2
) -> subprocess.CompletedProcess:
    """What became of `torchrun --nproc_per_node=RANKS script arguments`, whatever its status."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}"]
    launch.append("--standalone")
    return subprocess.run(
        [*launch, str(script), *map(str, arguments)],
        env=os.environ | dict(PYTHONPATH=path, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
