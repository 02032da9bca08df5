"""Every table of a GPU, in Markdown, with the card's name: one command.

    PYTHONPATH=. python benchmarks/gpu_report.py [--quick] > gpu.md

Runs the other scripts one after another, some ten minutes on a fast card, and ends with the tests
that need a GPU. A script that fails is named, its last line shown, and the status is 1; without a
usable GPU nothing is run.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from timing import machine

HERE = Path(__file__).parent
SCRIPTS = (
    ("weights_alone.py", "--device", "cuda"),
    ("backbone_step.py", "--device", "cuda", "--batch", "8", "--size", "256"),
    ("backbone_step.py", "--device", "cuda", "--batch", "4", "--size", "512"),
    ("optimizer_step.py", "--device", "cuda"),
    ("full_size.py", "--device", "cuda", "--size", "1333", "800"),
    ("full_size.py", "--device", "cuda", "--size", "1333", "800", "--amp", "float16"),
    ("folded_inference.py", "--device", "cuda", "--size", "1333", "800"),
    ("oc_attention.py", "--device", "cuda"),
    ("oc_whole_image.py", "--device", "cuda"),
)
TESTS = ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no whole detectors, no OCNet")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("There is no usable GPU: this report is of one; the scripts run on a CPU as well.")
    print(f"# {machine('cuda')}\n", flush=True)
    wanted = SCRIPTS[:4] if args.quick else SCRIPTS
    commands = {" ".join(each): (str(HERE / each[0]), *each[1:]) for each in wanted}
    commands["tests that need a GPU"] = TESTS
    failed = []
    for title, command in commands.items():
        print(f"## {title}\n", flush=True)
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=HERE.parent
        )
        print(done.stdout)
        if done.returncode:
            failed.append(title)
            lines = done.stderr.strip().splitlines()
            print(f"Failed: {lines[-1] if lines else f'status {done.returncode}'}\n", flush=True)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
