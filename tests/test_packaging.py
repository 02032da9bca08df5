"""The wheel and the source package, built with the real backend."""

import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
# Left out of the environment on purpose (tools/constraints.txt says why).
LEFT_OUT = {"appdirs", "coloredlogs", "huggingface-hub", "opencv-python", "opendatalab", "typing"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names in the wheel, its METADATA, and the names in the source package."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = folder.glob("normfix_mm-*.whl")
    (source,) = folder.glob("normfix_mm-*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(info).decode()
    with tarfile.open(source) as archive:
        sources = {name.split("/", 1)[1] for name in archive.getnames()}
    return names, text, sources


def tracked(*folders: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_the_wheel_carries_what_mim_looks_for(built):
    names, _, _ = built
    carried = tracked("configs", "tools", "model-index.yml")
    assert "tools/train.py" in carried
    assert [name for name in carried if f"normfix_mm/.mim/{name}" not in names] == []
    assert [name for name in tracked("normfix_mm") if name not in names] == []
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]


def test_the_core_depends_on_torch_alone(built):
    _, text, _ = built
    needs = [line for line in text.splitlines() if line.startswith("Requires-Dist:")]
    hard = [line for line in needs if "extra ==" not in line]
    assert hard == ["Requires-Dist: torch<3,>=2.1"]
    assert "Requires-Python: >=3.10" in text
    assert "License-Expression: Apache-2.0" in text
    extras = {line.split()[1] for line in text.splitlines() if line.startswith("Provides-Extra:")}
    assert {"onedl", "openmmlab", "report", "tuning", "transfer", "test", "demo"} <= extras


def test_the_source_package_builds_the_same_wheel(built):
    _, _, sources = built
    needed = tracked("normfix_mm", "configs", "tools", "tests", "model-index.yml")
    needed += ["LICENSE", "README.md", "Makefile", "pyproject.toml", "CONTRIBUTING.md"]
    needed += ["CHANGELOG.md", "CITATION.cff"]
    assert [name for name in needed if name not in sources] == []


def test_no_helper_of_the_tests_has_the_name_of_an_installed_package():
    """tests/ is on the path for `from engine.toy_run import …`; a package would take precedence."""
    tests = ROOT / "tests"
    imports = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
    names = {name for path in tests.rglob("*.py") for name in imports.findall(path.read_text())}
    ours = names & {path.stem for path in tests.iterdir()}
    assert {"engine", "helpers"} <= ours
    assert not ours & set(metadata.packages_distributions())


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_pins_cover_everything_that_is_needed():
    """--no-deps installs exactly the list, so the list must be closed under dependency."""
    packaging = pytest.importorskip("packaging.requirements", reason="not a pinned environment")
    lines = (ROOT / "tools" / "constraints.txt").read_text().splitlines()
    pins = [packaging.Requirement(line) for line in lines if line and not line.startswith("#")]
    here = {canonical(pin.name): pin for pin in pins if not pin.marker or pin.marker.evaluate()}
    if not _is_installed("onedl-mmcv"):
        pytest.skip("the pins are those of the OneDL stack and another one is installed")
    missing = []
    for name in here:
        for text in metadata.requires(name) or []:
            need = packaging.Requirement(text)
            if need.marker and not need.marker.evaluate({"extra": ""}):
                continue
            want = canonical(need.name)
            if want in LEFT_OUT or name == "torch":  # torch brings CUDA's own, exactly pinned
                continue
            if want not in here:
                missing.append(f"{name} needs {want}")
    assert missing == []
    for name, pin in here.items():
        assert metadata.version(name) in pin.specifier, f"{name} is installed at another version"


def _is_installed(name: str) -> bool:
    return any(canonical(d.metadata["Name"] or "") == name for d in metadata.distributions())
