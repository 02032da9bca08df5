"""The command-line tools, each run in this process, which saves its imports."""

import os
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.visualization import Visualizer

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def call(tool: str | Path, *arguments: object) -> None:
    """Run a file of tools/, or another script, as its command line would."""
    # MMEngine keeps visualizers for the process, with the classes of other tests' data.
    for kind in (Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(TOOLS / tool), *map(str, arguments)])
        patch.setenv("LOCAL_RANK", "0")  # else tools/train.py and test.py write it
        runpy.run_path(str(TOOLS / tool), run_name="__main__")


def log_of(work_dir: Path) -> str:
    """The log of the newest run in a work dir."""
    return max(work_dir.glob("*/*.log"), key=os.path.getmtime).read_text()
