"""The options of the commands that take a folder: which of its pictures are for what."""

from __future__ import annotations

import argparse


def add_lists(parser: argparse.ArgumentParser) -> None:
    """`--train-list`, `--val-list` and `--val-split`."""
    parser.add_argument(
        "--train-list", metavar="FILE", help="annotations, or names of a line each, to train on"
    )
    parser.add_argument("--val-list", metavar="FILE", help="the same to validate on")
    parser.add_argument(
        "--val-split",
        choices=("train", "val"),
        help="whether the pictures to validate on lie in images/train or images/val; default: val",
    )
