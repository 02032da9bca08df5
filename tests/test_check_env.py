"""check_env in environments that lack things: real interpreters with a chosen sys.path."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from normfix_mm import check_env

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SITE = Path(metadata.distribution("torch").locate_file(""))


def report(*paths: Path | str) -> tuple[int, dict]:
    """check_env --json under `python -S` (no site-packages) with these folders in front."""
    code = "import runpy, sys; runpy.run_module('normfix_mm.check_env', run_name='__main__')"
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, [*paths, ROOT])))
    result = subprocess.run(
        [sys.executable, "-S", "-c", code, "--json"], env=env, capture_output=True, text=True
    )
    assert result.stdout.startswith("{"), result.stderr
    return result.returncode, json.loads(result.stdout)


def finding(whole: dict, name: str) -> dict:
    return next(f for f in whole["findings"] if f["name"] == name)


def link(folder: Path, *names: str) -> Path:
    for name in names:
        for path in SITE.glob(name):
            (folder / path.name).symlink_to(path)
    return folder


def fake(folder: Path, distribution: str, version: str, **modules: str) -> None:
    """An installed distribution, as far as importlib can see."""
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    for name, text in modules.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(text)


def test_this_environment_is_ready():
    code, whole = report(SITE)
    assert code == 0, [f for f in whole["findings"] if f["remedy"]]
    assert whole["ok"]
    assert whole["stack"] in check_env.STACKS
    assert finding(whole, "mmcv.ops")["found"].startswith("operators load, compiled for C")
    assert finding(whole, "cv2")["found"].endswith("(opencv-python-headless)")
    # A local version, as +cu130, is in torch and need not be in its metadata.
    found, told = finding(whole, "torch")["found"], metadata.version("torch")
    assert found.split("+")[0] == told.split("+")[0]


def test_without_torch_it_says_so():
    code, whole = report()
    assert code == 1
    assert whole["stack"] == "none"
    assert finding(whole, "torch")["remedy"] == "install it: pip install torch"


def test_with_torch_alone_the_core_loads_and_each_missing_part_has_a_remedy(tmp_path):
    needed = ("torch", "torch-*info", "torchgen", "functorch", "typing_extensions.py", "sympy")
    link(tmp_path, *needed, "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "filelock")
    code, whole = report(tmp_path)
    assert code == 1
    assert whole["stack"] == "none"
    assert finding(whole, "normfix_mm")["remedy"] == ""
    for part in (*check_env.FRAMEWORKS, check_env.OTHERS[0]):
        found = finding(whole, part.module)
        assert found["found"] == "not installed"
        assert "pip install 'normfix-mm[onedl]'" in found["remedy"]
        assert found["required"] == (not part.need)
    assert "needed for tuning" in finding(whole, "optuna")["remedy"]
    assert "normfix-mm[tuning]" in finding(whole, "optuna")["remedy"]


def test_opencv_that_wants_libgl_is_sent_to_the_headless_wheel(tmp_path):
    text = "raise ImportError('libGL.so.1: cannot open shared object file')"
    fake(tmp_path, "opencv-python", "4.12.0", cv2=text)
    code, whole = report(tmp_path, SITE)
    assert code == 1
    assert "libGL.so.1" in finding(whole, "cv2")["found"]
    assert "opencv-python-headless" in finding(whole, "cv2")["remedy"]


def test_mmcv_without_operators(tmp_path):
    fake(tmp_path, "mmcv-lite", "2.1.0", mmcv="__version__ = '2.1.0'")
    code, whole = report(tmp_path, SITE)
    assert code == 1
    assert "do not load" in finding(whole, "mmcv.ops")["found"]
    assert "uninstall mmcv-lite" in finding(whole, "mmcv.ops")["remedy"]


def test_two_stacks_at_once(tmp_path):
    fake(tmp_path, "mmdet", "3.3.0")
    fake(tmp_path, "onedl-mmdetection", "3.5.1")
    code, whole = report(tmp_path, SITE)
    assert code == 1
    assert whole["stack"] == "mixed"
    assert "mmdet" in finding(whole, "stack")["remedy"]


def test_a_package_that_fails_while_it_is_imported_is_broken_not_missing(tmp_path):
    fake(tmp_path, "mmdet", "9.9", mmdet="assert False, 'MMCV==1 is used but incompatible'")
    _, whole = report(tmp_path, SITE)
    found = finding(whole, "mmdet")
    assert "AssertionError: MMCV==1 is used but incompatible" in found["found"]
    assert found["remedy"].startswith("reinstall")


@pytest.mark.parametrize(
    ("installed", "stack"),
    [
        (set(), "none"),
        ({"onedl-mmcv", "onedl-mmengine"}, "OneDL"),
        ({"mmcv", "mmengine"}, "OpenMMLab"),
        ({"onedl-mmcv", "mmengine"}, "mixed"),
    ],
)
def test_stack_of(installed, stack):
    assert check_env.stack_of(installed) == stack


def test_gpu_with_cpu_operators_has_a_remedy():
    class Cuda:
        is_available = staticmethod(lambda: True)
        get_device_name = staticmethod(lambda _: "GPU X")

    class Torch:
        cuda = Cuda
        version = type("version", (), {"cuda": "13.0"})

    assert "CUDA 13.0 toolkit" in check_env._gpu(Torch, "CPU").remedy
    assert check_env._gpu(Torch, "CUDA 13.0").remedy == ""


def test_segmentation_is_looked_at_and_not_asked_for(tmp_path):
    _, whole = report(SITE)
    assert finding(whole, "normfix_mm.segmentation")["remedy"] == ""
    assert finding(whole, "cityscapesscripts")["found"].endswith("(cityscapesScripts)")
    same = next(d for d in ("onedl-mmsegmentation", "mmsegmentation") if check_env.version_of(d))
    fake(tmp_path, same, "9.9", mmseg="assert False, 'another mmcv'")
    (tmp_path / "cityscapesscripts.py").write_text("raise ImportError('absent')")
    code, whole = report(tmp_path, SITE)
    assert code == 0
    for name in ("normfix_mm.segmentation", "cityscapesscripts"):
        found = finding(whole, name)
        assert found["remedy"] and not found["required"]
    assert "normfix-mm[cityscapes]" in found["remedy"]


def test_versions_outside_of_what_is_tested_are_said_and_do_not_stop(tmp_path):
    fake(tmp_path, "mmcv", "2.0.1", mmcv="__version__ = '2.0.1'")
    (tmp_path / "mmcv/ops.py").write_text("get_compiling_cuda_version = lambda: 'not available'")
    _, whole = report(tmp_path, SITE)
    found = finding(whole, "mmcv")
    assert "from 2.1.0 on, below 2.2" in found["remedy"] and not found["required"]


@pytest.mark.parametrize(
    ("distribution", "version", "fits"),
    [
        ("torch", "2.13.0+cu130", True),
        ("torch", "2.1.2+cu118", True),
        ("torch", "2.0.1", False),
        ("torch", "3.0.0", False),
        ("mmcv", "2.1.0", True),
        ("mmcv", "2.2.0", False),
        ("onedl-mmcv", "2.3.6rc1", True),
        ("onedl-mmcv", "2.3.10", True),
        ("something", "0.1", True),
    ],
)
def test_supported_versions(distribution, version, fits):
    assert (check_env.unsupported(distribution, version) == "") is fits


def test_the_bounds_are_those_of_the_metadata():
    requirement = pytest.importorskip("packaging.requirements").Requirement
    toml = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    project = toml.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["onedl"], *extras["openmmlab"]]
    asked = {(need := requirement(line)).name: need.specifier for line in lines}
    for name, (oldest, below) in check_env.SUPPORTED.items():
        assert {str(each) for each in asked[name]} == {f">={oldest}", f"<{below}"}, name


def test_torchvision_is_looked_at(tmp_path):
    fake(tmp_path, "torchvision", "0.9", torchvision="raise RuntimeError('operator nms')")
    _, whole = report(tmp_path, SITE)
    found = finding(whole, "torchvision")
    assert "operator nms" in found["found"] and not found["required"]
    assert "weights of torchvision://" in found["remedy"]


def test_the_printed_report(capsys):
    assert check_env.main([]) == 0
    printed = capsys.readouterr().out
    assert "Ready to train." in printed
    assert "mmcv.ops" in printed
