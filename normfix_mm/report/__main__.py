"""``normfix report WORK_DIR [WORK_DIR ...] --out page.html``, or ``python -m normfix_mm.report``"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from normfix import Parser
from normfix_mm.checkpoints.safe_load import weights_only
from normfix_mm.report import page, picture
from normfix_mm.report.run import NoRun, Run
from normfix_mm.run import ending
from normfix_mm.run.console import without_noise


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """The command, which ends as all of them do."""

    def safely() -> None:
        with weights_only(), without_noise():
            report(arguments, prog)

    ending.run(safely, "report")


def report(arguments: Sequence[str] | None, prog: str | None) -> None:
    """What the command does."""
    prog = prog or "python -m normfix_mm.report"
    parser = Parser(prog=prog, description="One HTML page on one or several runs.")
    parser.add_argument(
        "work_dirs",
        nargs="+",
        metavar="WORK_DIR",
        help="the run the page is about, then those it is compared with",
    )
    parser.add_argument(
        "--out",
        default=None,
        metavar="FILE",
        help="the page; index.html in the first work dir if not given",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="what to call the runs; their configs' names if not given, or where their folders "
        "differ if these are alike",
    )
    parser.add_argument("--title", default="What training did")
    parser.add_argument("--command", help="the command the page says it was made by")
    parser.add_argument(
        "--picture", metavar="FILE", help="write this small PNG for a README instead of the page"
    )
    args = parser.parse_args(arguments)
    if args.names and len(args.names) != len(args.work_dirs):
        parser.error(f"{len(args.names)} names for {len(args.work_dirs)} work dirs; give one each")
    try:
        runs = [
            Run.load(folder, name)
            for folder, name in zip(args.work_dirs, args.names or [None] * len(args.work_dirs))
        ]
        if not args.names and len({run.name for run in runs}) < len(runs):
            for run, name in zip(runs, _apart(args.work_dirs)):
                run.name = name
        if args.picture:
            page.write(args.picture, picture.compose(runs))
            return print(args.picture)
        out = args.out or Path(args.work_dirs[0]) / "index.html"
        words = [*args.work_dirs, "--out", str(out)]
        words += ["--names", *args.names] if args.names else []
        command = args.command or f"{prog} " + shlex.join(words)
        page.write(out, page.build(runs, args.title, command))
        print(out)
    except (NoRun, OSError) as error:
        sys.exit(f"report: {error}")


def _apart(work_dirs: Sequence[str]) -> list[str]:
    """The folders of each path that the others do not have at its place; all, if they are alike."""
    paths = [Path(work_dir).resolve().parts for work_dir in work_dirs]
    columns = list(zip_longest(*paths))
    kept = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    return ["/".join(path[i] for i in kept if i < len(path)) or str(Path(*path)) for path in paths]


if __name__ == "__main__":
    main()
