"""The wheel and the source package: built with the real backend, installed, and run."""

import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from helpers.processes import ended, start_any, wait_for
from helpers.small_command import CLASSES, write_config
from helpers.toy_coco import make_toy_coco

import normfix_mm
from normfix_mm.errors import BadInput
from normfix_mm.run import command_line

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
# Left out of the environment on purpose (tools/constraints.txt says why).
LEFT_OUT = {"appdirs", "coloredlogs", "huggingface-hub", "keyring", "opencv-python"}
LEFT_OUT |= {"opendatalab", "typing"}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """The wheel, made of the source package, and the source package."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (wheel,) = folder.glob("normfix_mm-*.whl")
    (source,) = folder.glob("normfix_mm-*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def built(distributions):
    """The names in the wheel, its METADATA, and the names in the source package."""
    with zipfile.ZipFile(distributions[0]) as archive:
        names = set(archive.namelist())
        (info,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(info).decode()
    with tarfile.open(distributions[1]) as archive:
        sources = {name.split("/", 1)[1] for name in archive.getnames()}
    return names, text, sources


@pytest.fixture(scope="module")
def alone(distributions, tmp_path_factory) -> Path:
    """The programs of an environment that has the wheel and nothing else, not even torch."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
    command = [*pip, "--quiet", "--no-deps", "--no-index", str(distributions[0])]
    subprocess.run(command, check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def beside_the_stack(alone) -> Path:
    """The same, which now finds the packages of this environment, but not the checkout."""
    (site,) = alone.parent.glob("lib/python*/site-packages")
    (site / "stack.pth").write_text(sysconfig.get_path("purelib"))
    return alone


def tracked(*folders: str) -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout, so nobody knows which files belong to it")
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def said(program: Path, *arguments: str) -> tuple[int, str]:
    """Status and words of a program that does not find the checkout."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [program, *arguments], cwd=program.parent, env=env, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_the_wheel_carries_what_mim_looks_for(built):
    names, _, _ = built
    carried = tracked("configs", "tools", "model-index.yml")
    assert "tools/train.py" in carried
    assert [name for name in carried if f"normfix_mm/.mim/{name}" not in names] == []
    assert [name for name in tracked("normfix.py", "normfix_mm") if name not in names] == []
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


def test_the_source_package_has_all_that_is_tracked_but_the_script_of_the_integration(built):
    _, _, sources = built
    assert [name for name in tracked() if name not in sources] == [".ci/run"]


def test_the_index_will_show_the_page_of_both(distributions):
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr


def test_the_version_stands_in_one_place_and_is_the_same_everywhere(distributions, alone):
    version = normfix_mm.__version__
    assert said(alone / "normfix", "--version") == (0, f"normfix_mm {version}\n")
    assert all(path.name.startswith(f"normfix_mm-{version}") for path in distributions)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{version}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--help"], 0, "train-folder  train on a folder"),
        (["check"], 1, "install it: pip install torch."),
        (["train", "c.py"], 1, "error: The command needs torch, which is not installed; `normfix"),
        (["trian"], 1, "error: There is no command 'trian'; did you mean `normfix train`?"),
        (["convert_checkpoint"], 1, "did you mean `normfix convert`?"),
        (["xyz"], 1, "error: There is no command 'xyz'; `normfix --help` lists all."),
        ([], 2, "the following arguments are required: COMMAND"),
    ],
)
def test_the_console_command_answers_without_torch(alone, words, status, told):
    code, text = said(alone / "normfix", *words)
    assert code == status and told in text and "Traceback" not in text, text
    assert not text.startswith("error: ") or text.count("\n") == 1


def test_a_config_of_the_wheel_is_found_from_any_folder(alone, tmp_path, monkeypatch):
    (package,) = alone.parent.glob("lib/python*/site-packages/normfix_mm")
    monkeypatch.setattr(command_line, "CARRIED", package / ".mim")
    monkeypatch.chdir(tmp_path)
    name = "configs/retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco.py"
    assert command_line.read_config(name).model.bbox_head.type == "FixNormRetinaHead"
    with pytest.raises(BadInput, match="'configs/none.py' or a base of it does not exist"):
        command_line.read_config("configs/none.py")
    own = tmp_path / name  # one's own comes first
    own.parent.mkdir(parents=True)
    own.write_text("model = dict(type='Own')")
    assert command_line.read_config(name).model.type == "Own"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A config with a tiny model."""
    folder = tmp_path_factory.mktemp("run")
    return write_config(folder / "small.py", make_toy_coco(folder / "coco", CLASSES))


def test_the_console_command_trains_and_an_interruption_shows_how_it_was_typed(
    beside_the_stack, small, tmp_path
):
    """And threads wait as they should: torch's OpenMP reads how long as it is loaded."""
    words = ["train", small, "--work-dir", tmp_path / "run", "--cfg-options"]
    words += ["train_cfg.max_iters=2000", "train_cfg.val_interval=2000"]
    path = f"{beside_the_stack}{os.pathsep}{os.environ['PATH']}"
    process = start_any(
        beside_the_stack / "normfix", *words, PATH=path, PYTHONPATH="", OMP_DISPLAY_ENV="verbose"
    )
    wait_for(tmp_path / "run/last_checkpoint", process)
    os.killpg(process.pid, signal.SIGINT)
    status, lines = ended(process)
    assert status == 130, "\n".join(lines[-20:])
    command = shlex.split(lines[-1].partition("go on with: ")[2])
    assert command == ["normfix", *map(str, words), "--resume"]
    if sys.platform.startswith("linux"):  # elsewhere torch has another OpenMP
        spins = {line.split("=")[1].strip() for line in lines if "GOMP_SPINCOUNT" in line}
        assert spins == {"'10000'"}


def test_mim_finds_the_installed_wheel(beside_the_stack, small, tmp_path):
    mim = "from mim.cli import cli; cli()"
    words = ["train", "normfix_mm", str(small), "--gpus", "0", "--work-dir", str(tmp_path)]
    code, text = said(beside_the_stack / "python", "-c", mim, *words)
    assert code == 0, text[-3000:]
    assert (tmp_path / "iter_2.pth").exists() and "site-packages" in text


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
