"""`make setup`: what it refuses, what it decides, and that a failure leaves nothing half-made."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import setup_checks as checks  # noqa: E402
import setup_env  # noqa: E402
import setup_run  # noqa: E402

sys.path.remove(str(ROOT / "tools"))


# -- what is refused up front -------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 11, 7), (3, 13, 2)])
def test_supported_pythons_pass(version):
    checks.check_python(version)


@pytest.mark.parametrize(("version", "word"), [((3, 9, 18), "old"), ((3, 14, 0), "new")])
def test_other_pythons_are_refused(version, word):
    with pytest.raises(checks.SetupError, match=rf"too {word}.*PYTHON="):
        checks.check_python(version)


def test_debian_without_python3_venv_is_told_the_package():
    checks.check_venv()
    with pytest.raises(checks.SetupError, match=r"lacks ensurepip.*apt-get install python3-venv"):
        checks.check_venv(lambda name: name != "ensurepip")


def test_full_disk_is_refused(tmp_path):
    checks.check_disk(20 * 2**30, tmp_path)
    with pytest.raises(checks.SetupError, match=r"only 1\.0 GiB are free"):
        checks.check_disk(2**30, tmp_path)


def test_compiler():
    assert checks.check_compiler()


def test_missing_compiler_is_refused(tmp_path):
    with pytest.raises(checks.SetupError, match=r"compiler \S+ is not installed.*apt-get"):
        checks.check_compiler({"PATH": str(tmp_path)})


def test_missing_python_headers_are_refused(tmp_path):
    with pytest.raises(checks.SetupError, match=r"header files are missing.*python3-dev"):
        checks.check_compiler(include=str(tmp_path))


def test_compiler_that_does_not_compile_is_refused():
    with pytest.raises(checks.SetupError, match=r"false cannot compile C\+\+17"):
        checks.check_compiler({"CXX": "false", "PATH": os.environ["PATH"]})


# -- what is decided ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "nvcc", "torch_cuda", "kind", "sentence"),
    [
        (False, None, None, "cpu", None),
        (False, "12.4", "13.0", "cpu", None),
        (True, "13.1", "13.0", "cuda", None),
        (True, None, "13.0", "cpu", "there is no nvcc"),
        (True, "12.4", "13.0", "cpu", "nvcc is of CUDA 12.4"),
    ],
)
def test_operators_are_built_for_what_can_be_built(gpu, nvcc, torch_cuda, kind, sentence):
    built, said = checks.operator_build(gpu, nvcc, torch_cuda)
    assert built == kind
    if sentence is None:
        assert said is None
    else:
        assert sentence in said
        assert "CUDA 13.0 toolkit" in said


def test_nvcc_version():
    printed = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.4, V12.4.1"
    assert checks.nvcc_version(printed) == "12.4"
    assert checks.nvcc_version("command not found") is None


def test_operators_are_built_for_the_cards_of_the_machine():
    assert checks.cuda_architectures("9.0\n8.6\n10.0\n9.0\n") == "8.6;9.0;10.0"
    assert checks.cuda_architectures("NVIDIA-SMI has failed ...") is None
    assert checks.cuda_architectures("") is None


def test_jobs_are_all_cores_unless_memory_is_short():
    assert checks.compile_jobs(8, 64 * 2**30) == 8
    assert checks.compile_jobs(8, 4 * 2**30) == 2
    assert checks.compile_jobs(8, 0) == 1


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "memory ran out"),
        ("Failed to establish a new connection: name resolution", "index cannot be reached"),
        ("ERROR: No matching distribution found for torch==2.13.0", "does not exist for this"),
        ("ninja: build stopped: subcommand failed.", "the compiler failed"),
        ("Traceback ...", "last lines say why"),
    ],
)
def test_cause_of_a_failed_step(log, cause):
    assert cause in checks.cause_of(log)


def test_stacks_share_all_but_the_frameworks():
    default = setup_env.Environment("onedl").lines
    upstream = setup_env.Environment("openmmlab").lines
    assert not [line for line in upstream if line.startswith("onedl-")]
    assert {line for line in default if not line.startswith("onedl-")} <= set(upstream)
    assert checks.pinned(upstream, "mmcv") == "mmcv==2.1.0"
    assert not [x for x in default + upstream if x.startswith("opencv-python==") or "+" in x]


# -- nothing half-made --------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A project whose pins name a package that exists nowhere; pip is kept off the network."""
    tools = tmp_path / "tools"
    tools.mkdir()
    pins = [f"{name}==0" for name in ("ninja", "packaging", "psutil", "hatchling")]
    pins += [f"{name}==0" for name in ("pip", "setuptools", "wheel", "torch", "torchvision")]
    pins += ["onedl-mmcv==0"]
    (tools / "constraints.txt").write_text("\n".join(pins))
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / ".setup").mkdir()
    return setup_env.Environment("onedl", root=tmp_path, work=tmp_path / ".setup")


@pytest.mark.parametrize(
    ("loads", "installed"),
    [([True], []), ([False, True], ["torch===0"])],
    ids=["of one build", "torch alone is for the CPU"],
)
def test_torch_and_torchvision_are_of_one_build(project, monkeypatch, loads, installed, capsys):
    """`2.13.0+cpu` satisfies `torch==2.13.0` and is preferred; PyPI's torchvision is not for it."""
    called = []
    monkeypatch.setattr(project, "loads", lambda module: loads.pop(0))
    monkeypatch.setattr(project, "pip", lambda step, *arguments: called.append(arguments[1]))
    project.match_torchvision()
    assert called == installed
    said = capsys.readouterr().out
    assert ("downloading the build of PyTorch that torchvision goes with" in said) == bool(called)


def test_torchvision_that_loads_beside_no_build_is_refused(project, monkeypatch):
    monkeypatch.setattr(project, "loads", lambda module: False)
    monkeypatch.setattr(project, "pip", lambda *arguments: None)
    with pytest.raises(checks.SetupError, match=r"torchvision==\S+ does not load.*one index"):
        project.match_torchvision()


@pytest.mark.slow
def test_a_failed_step_leaves_no_environment_and_names_its_log(project, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(checks, "FREE_GIB", 0)
    with pytest.raises(checks.SetupError, match=r"'build-tools' failed: .*\(\.setup/logs/\S+\)\."):
        project.ensure()
    assert not project.path.exists()
    assert "No matching distribution" in project.log("build-tools").read_text()


def test_an_interrupted_step_is_asked_to_end(project, monkeypatch):
    """SIGKILL alone would leave ninja's compilers running."""
    script = project.root / "step.py"
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    pathlib.Path('ended').touch()\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path('started').touch()\n"
        "time.sleep(60)\n"
    )

    def interrupt(log):
        while not (project.root / "started").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_run, "HEARTBEAT", 0.01)
    monkeypatch.setattr(setup_run, "_progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        project.run("step", [sys.executable, str(script)])
    assert (project.root / "ended").exists()


def test_what_an_interruption_left_is_not_taken_for_done(project, monkeypatch):
    """SIGKILL leaves the folder and its empty note: the next run starts anew."""
    project.path.mkdir()
    project.write_note()
    (project.path / "half").write_text("")
    made = []
    monkeypatch.setattr(project, "fill", lambda: made.append(sorted(os.listdir(project.path))))
    monkeypatch.setattr(project, "pip", lambda *_: None)
    monkeypatch.setattr(checks, "FREE_GIB", 0)
    project.ensure()
    assert made == [[setup_env.NOTE]]
    assert project.note() == project.keys
    project.ensure()
    assert len(made) == 1, "a second run does nothing"


def test_killed_while_discarding_leaves_no_nameless_folder(project, monkeypatch):
    project.path.mkdir()
    project.write_note()
    (project.path / "lib").mkdir()
    monkeypatch.setattr(setup_env.shutil, "rmtree", lambda *_, **__: None)
    project.discard()
    assert not project.path.exists()


def test_new_pins_make_a_new_environment_and_a_new_pyproject_only_reinstalls(project, monkeypatch):
    made, installed = [], []
    monkeypatch.setattr(project, "fill", lambda: made.append(1))
    monkeypatch.setattr(project, "pip", lambda step, *_: installed.append(step))
    monkeypatch.setattr(checks, "FREE_GIB", 0)
    project.ensure()
    project.keys["project"] = "changed"
    project.ensure()
    assert (len(made), installed) == (1, ["project", "project"])
    project.keys["environment"] = "changed"
    project.ensure()
    assert (len(made), len(installed)) == (2, 3)


def test_project_that_does_not_install_is_not_done(project, monkeypatch):
    monkeypatch.setattr(project, "fill", lambda: None)
    monkeypatch.setattr(checks, "FREE_GIB", 0)

    def fail(*_):
        raise checks.SetupError("no")

    monkeypatch.setattr(project, "pip", fail)
    with pytest.raises(checks.SetupError):
        project.ensure()
    assert project.note() == {"environment": project.keys["environment"]}


def test_an_environment_made_by_hand_is_left_alone(project):
    project.path.mkdir()
    (project.path / "mine").write_text("precious")
    with pytest.raises(checks.SetupError, match="left alone: move it away"):
        project.ensure()
    assert (project.path / "mine").read_text() == "precious"


def test_the_command_ends_with_a_sentence_and_no_traceback(tmp_path):
    for name in ("setup_env.py", "setup_checks.py", "setup_run.py", "constraints.txt"):
        target = tmp_path / "tools" / name
        target.parent.mkdir(exist_ok=True)
        target.write_text((ROOT / "tools" / name).read_text())
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / ".venv").mkdir()
    result = subprocess.run(
        [sys.executable, "tools/setup_env.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.startswith("setup: .venv was not made by")
    assert "Traceback" not in result.stderr
