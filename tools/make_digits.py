"""Make the digits set of the demo: ``python tools/make_digits.py data/digits``.

Takes about five seconds; see ``normfix_mm/datasets/digits.py`` for what it writes.
"""

from __future__ import annotations

import argparse
import sys

from normfix_mm.datasets.digits import make_digits
from normfix_mm.run import ending


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", nargs="?", default="data/digits", help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=640, help="number of training pictures")
    parser.add_argument("--val", type=int, default=128, help="number of validation pictures")
    parser.add_argument("--size", type=int, default=128, help="width and height in pixels")
    args = parser.parse_args()
    try:
        print(make_digits(args.out, seed=args.seed, train=args.train, val=args.val, size=args.size))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"make_digits: {error}")


if __name__ == "__main__":
    ending.run(main, "make_digits")
