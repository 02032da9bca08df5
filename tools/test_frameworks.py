"""`make test-frameworks`: mmengine's own tests, once as they are and once with this package loaded.

    .venv/bin/python tools/test_frameworks.py [--pytest-args=-x]

Of its source package in the index: hooks, optimizers and their constructors, registries, loading
and saving of checkpoints. What fails with this package and passes without is a fault of ours; what
fails in both (for want of a GPU, of a network) is not. Some two minutes of one core. The source
packages of MMDetection and MMSegmentation have no tests of heads, and upstream's mmengine has none
at all: there this ends with a sentence and status 1. Standard library and pip only.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from importlib.metadata import packages_distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".setup" / "frameworks"
CHOSEN = ("test_hooks", "test_optim", "test_registry", "test_runner/test_checkpoint.py")
NEEDED = ("parameterized",)  # by the tests alone
OURS = ("normfix_mm.detection", "normfix_mm.segmentation", "normfix_mm.classification")


def tests_of(package: str) -> Path:
    """The folder with the tests of the installed version of a distribution.

    Raises:
        SystemExit: its source package has none, or there is none.
    """
    wanted = f"{package}=={version(package)}"
    folder = WORK / wanted
    if not (folder / "tests").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--quiet"]
        get = [*pip, "download", "--no-deps", "--no-binary=:all:", "--dest", str(folder), wanted]
        subprocess.run(get, check=True)
        subprocess.run([*pip, "install", "--target", str(folder / "needed"), *NEEDED], check=True)
        (source,) = folder.glob("*.tar.gz")
        with tarfile.open(source) as archive:
            top = archive.getnames()[0].partition("/")[0]
            inside = [m for m in archive.getmembers() if m.name.startswith(f"{top}/tests/")]
            archive.extractall(folder, inside, filter="data")
        if not (folder / top / "tests" / CHOSEN[0]).is_dir():
            sys.exit(f"test-frameworks: the source package of {wanted} has no tests.")
        (folder / top / "tests").rename(folder / "tests")
    return folder


def failures(folder: Path, plugins: tuple[str, ...], arguments: list[str]) -> tuple[int, set[str]]:
    """How many tests passed, and the names of those that did not."""
    report = folder / f"{len(plugins)}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors"]
    command += ["-p", "no:cacheprovider", f"--junitxml={report}"]
    command += [word for plugin in plugins for word in ("-p", plugin)]
    command += [f"tests/{name}" for name in CHOSEN]
    path = os.pathsep.join([str(folder / "needed"), str(ROOT)])
    environ = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1")
    report.unlink(missing_ok=True)
    subprocess.run([*command, *arguments], cwd=folder, env=environ)
    if not report.exists():
        sys.exit("test-frameworks: pytest wrote no report; see above.")
    cases = list(ElementTree.parse(report).iter("testcase"))
    bad = {
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    skipped = sum(case.find("skipped") is not None for case in cases)
    return len(cases) - len(bad) - skipped, bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pytest-args", default="", help="for pytest, in one word")
    arguments = shlex.split(parser.parse_args().pytest_args)
    package = packages_distributions()["mmengine"][0]
    folder = tests_of(package)
    passed, before = failures(folder, (), arguments)
    passed_too, after = failures(folder, OURS, arguments)
    name = f"{package} {version(package)}"
    print(f"test-frameworks: {name} as it is: {passed} passed, {len(before)} did not")
    print(f"test-frameworks: with this package: {passed_too} passed, {len(after)} did not")
    for case in sorted(after - before):
        print(f"test-frameworks: FAILED with this package alone: {case}")
    if not passed_too:
        print("test-frameworks: nothing was tested.", file=sys.stderr)
    return int(bool(after - before) or not passed_too)


if __name__ == "__main__":
    sys.exit(main())
