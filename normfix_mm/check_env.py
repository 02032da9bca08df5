"""What is installed, and one sentence of remedy for each thing missing.

    python -m normfix_mm.check_env [--json]

Two sets of distributions, OneDL's and OpenMMLab's, provide the same modules (mmcv, mmengine, mmdet,
...); this says which set is here, whether it is whole and whether mmcv's compiled operators load.
Exit status 1 if something is missing that training needs. Imports nothing at its top but the
standard library, so that it can also report that torch is absent.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import platform
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from normfix import Parser

STACKS = ("OneDL", "OpenMMLab")
# From the first version on, below the second, as in pyproject.toml; another may work, untested.
SUPPORTED = {
    "torch": ("2.1", "3"),
    "onedl-mmengine": ("0.10.12", "1"),
    "onedl-mmcv": ("2.3.6", "3"),
    "onedl-mmdetection": ("3.5.1", "4"),
    "onedl-mmsegmentation": ("1.4.2", "2"),
    "onedl-mmpretrain": ("1.3.6", "2"),
    "mmengine": ("0.10.7", "1"),
    "mmcv": ("2.1.0", "2.2"),
    "mmdet": ("3.3.0", "4"),
    "mmsegmentation": ("1.2.2", "2"),
    "mmpretrain": ("1.2.0", "2"),
}
INSTALL = "run `make setup`, or pip install 'normfix-mm[{extra}]'"


@dataclass(frozen=True)
class Part:
    """A module the project uses, and the distributions that provide it."""

    module: str
    distributions: tuple[str, ...]  # OneDL's, then OpenMMLab's; or one for both
    need: str = ""  # what it is optional for; empty: training needs it
    extra: str = ""  # extra of normfix-mm that installs it; empty: the stack's


@dataclass
class Finding:
    """One line of the report. `remedy` is empty exactly if nothing is wrong."""

    name: str
    found: str
    remedy: str = ""
    required: bool = True


FRAMEWORKS = (
    Part("mmengine", ("onedl-mmengine", "mmengine")),
    Part("mmcv", ("onedl-mmcv", "mmcv")),
    Part("mmdet", ("onedl-mmdetection", "mmdet")),
    Part("mmseg", ("onedl-mmsegmentation", "mmsegmentation"), "segmentation"),
    Part("mmpretrain", ("onedl-mmpretrain", "mmpretrain"), "classification"),
    Part("mim", ("onedl-mim", "openmim"), "`mim train`"),
)
OTHERS = (
    Part("pycocotools", ("pycocotools",)),
    Part("torchvision", ("torchvision",), "weights of torchvision://"),
    Part("ftfy", ("ftfy",), "segmentation"),
    Part("regex", ("regex",), "segmentation"),
    Part("cityscapesscripts", ("cityscapesScripts",), "Cityscapes", "cityscapes"),
    Part("sklearn", ("scikit-learn",), "make demo", "demo"),
    Part("matplotlib", ("matplotlib",), "reports", "report"),
    Part("jinja2", ("jinja2",), "reports", "report"),
    Part("safetensors", ("safetensors",), "transfer of checkpoints", "transfer"),
    Part("timm", ("timm",), "ImageNet's EfficientNet-Lite0", "transfer"),
    Part("optuna", ("optuna",), "tuning", "tuning"),
)


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def unsupported(distribution: str, version: str) -> str:
    """The remedy for a version that this package is not tested with; '' for one that it is."""
    if distribution not in SUPPORTED:
        return ""
    oldest, below = SUPPORTED[distribution]
    if _numbers(oldest) <= _numbers(version) < _numbers(below):
        return ""
    return (
        f"supported is {distribution} from {oldest} on, below {below}: expect faults, or install "
        "one in an environment of its own (`make setup`), since another torch breaks an mmcv that "
        "was compiled for this one"
    )


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 13, 0) of '2.13.0+cu130'."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def stack_of(installed: set[str]) -> str:
    """'OneDL', 'OpenMMLab', 'mixed' or 'none', from the names of installed distributions."""
    sides = [{part.distributions[i] for part in FRAMEWORKS} & installed for i in range(len(STACKS))]
    if all(sides):
        return "mixed"
    return next((name for name, side in zip(STACKS, sides, strict=True) if side), "none")


def load(module: str) -> tuple[object | None, str]:
    """The imported module and '', or None and why not; what it prints is swallowed."""
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore")
            if sys.version_info >= (3, 11)
            else warnings.catch_warnings(),
        ):
            return importlib.import_module(module), ""
    except Exception as error:  # a half-installed package raises anything: AssertionError, OSError
        text = " ".join(str(error).split())
        return None, f"{type(error).__name__}: {text[:200]}"


def examine() -> list[Finding]:
    """Everything the report says, in its order."""
    names = {name for part in FRAMEWORKS for name in part.distributions}
    stack = stack_of({name for name in names if version_of(name)})
    extra = "openmmlab" if stack == "OpenMMLab" else "onedl"
    findings = [Finding("Python", platform.python_version())]
    torch, why = load("torch")
    if torch is None:
        return [
            *findings,
            Finding("torch", f"does not load ({why})", "install it: pip install torch"),
            Finding("stack", stack),
        ]
    remedy = unsupported("torch", torch.__version__)
    findings += [Finding("torch", torch.__version__, remedy, False), _stack(stack), _opencv()]
    findings += [_part(part, extra) for part in FRAMEWORKS + OTHERS]
    built_for, operators = _operators(extra)
    return [*findings, operators, _gpu(torch, built_for), *_ours(stack)]


def _stack(stack: str) -> Finding:
    if stack == "none":
        return Finding("stack", "none", "install one: " + INSTALL.format(extra="onedl"))
    if stack == "mixed":
        both = [d for part in FRAMEWORKS for d in part.distributions if version_of(d)]
        remedy = (
            f"OneDL and OpenMMLab overwrite each other's modules: pip uninstall {' '.join(both)}, "
            "then install one of them in a fresh environment (make distclean setup)"
        )
        return Finding("stack", "mixed", remedy)
    return Finding("stack", stack)


def _part(part: Part, extra: str) -> Finding:
    here = [f"{version} ({d})" for d in part.distributions if (version := version_of(d))]
    purpose = f"needed for {part.need}: " if part.need else ""
    remedy = purpose + INSTALL.format(extra=part.extra or extra)
    module, why = load(part.module)
    if module is not None:
        version = here or [str(getattr(module, "__version__", "of unknown version"))]
        told = [unsupported(d, v) for d in part.distributions if (v := version_of(d))]
        return Finding(part.module, ", ".join(version), next(filter(None, told), ""), False)
    if not here:
        return Finding(part.module, "not installed", remedy, not part.need)
    return Finding(
        part.module, f"{here[0]} does not load ({why})", "reinstall: " + remedy, not part.need
    )


def _opencv() -> Finding:
    """Both OpenCV wheels write the same files; only the headless one does without libGL."""
    names = ("opencv-python", "opencv-python-headless")
    here = [f"{version} ({name})" for name in names if (version := version_of(name))]
    headless = "pip uninstall -y opencv-python opencv-python-headless, then pip install --no-deps"
    cv2, why = load("cv2")
    if cv2 is not None:
        return Finding("cv2", ", ".join(here) or cv2.__version__)
    if not here:
        return Finding("cv2", "not installed", "install it: pip install opencv-python-headless")
    return Finding(
        "cv2",
        f"{', '.join(here)} does not load ({why})",
        f"leave only the wheel that needs no libGL: {headless} opencv-python-headless",
    )


def _operators(extra: str) -> tuple[str, Finding]:
    """What mmcv's operators were compiled for ('' if they do not load), and the finding."""
    name = "mmcv.ops"
    ops, why = load(name)
    if ops is None:
        lite = version_of("mmcv-lite")
        remedy = (
            "mmcv-lite has none: pip uninstall mmcv-lite, then " if lite else "compile them: "
        ) + INSTALL.format(extra=extra)
        return "", Finding(name, f"operators do not load ({why})", remedy)
    cuda = ops.get_compiling_cuda_version()
    built_for = "CPU" if cuda == "not available" else f"CUDA {cuda}"
    return built_for, Finding(name, f"operators load, compiled for {built_for}")


def _gpu(torch, built_for: str) -> Finding:
    if not torch.cuda.is_available():
        return Finding("GPU", "none visible, training runs on the CPU")
    found = f"{torch.cuda.get_device_name(0)} (CUDA {torch.version.cuda})"
    if built_for != "CPU":
        return Finding("GPU", found)
    remedy = (
        "mmcv's operators are compiled for the CPU only: install the CUDA "
        f"{torch.version.cuda} toolkit (nvcc) and run `make distclean setup`, or train with "
        "CUDA_VISIBLE_DEVICES= (empty)"
    )
    return Finding("GPU", found, remedy)


def _ours(stack: str) -> list[Finding]:
    """This package's own modules, where what they stand on is there."""
    on_stack = ("normfix_mm.engine", "normfix_mm.detection", "normfix_mm.segmentation")
    findings = []
    for name in ("normfix_mm", *(() if stack == "none" else on_stack)):
        module, why = load(name)
        version = getattr(sys.modules.get("normfix_mm"), "__version__", "")
        if module is None:
            remedy = "repair what stands above; if nothing does, reinstall normfix-mm"
            required = name != "normfix_mm.segmentation"  # detectors train without it
            findings.append(Finding(name, f"does not load ({why})", remedy, required))
        else:
            findings.append(Finding(name, version))
    return findings


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    prog = prog or "python -m normfix_mm.check_env"
    parser = Parser(prog=prog, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="for programs instead of people")
    as_json = parser.parse_args(arguments).json
    findings = examine()
    missing = any(finding.remedy and finding.required for finding in findings)
    if as_json:
        stack = next(finding.found for finding in findings if finding.name == "stack")
        whole = {"ok": not missing, "stack": stack, "findings": [asdict(f) for f in findings]}
        print(json.dumps(whole, indent=2))
        return int(missing)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = " " if not finding.remedy else "!" if finding.required else "-"
        print(f"{mark} {finding.name:{width}}  {finding.found}")
        if finding.remedy:
            print(f"  {'':{width}}  -> {finding.remedy}.")
    print("Something that training needs is missing (!)." if missing else "Ready to train.")
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
