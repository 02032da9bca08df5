"""`make test-matrix`: which torch is installed for what was asked, and what is left out and why."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def matrix():
    sys.path.insert(0, str(TOOLS))
    try:
        import test_matrix
    finally:
        sys.path.remove(str(TOOLS))
    return test_matrix


@pytest.mark.parametrize(
    ("name", "requirements"),
    [
        ("2.1", ("torch==2.1.*", "numpy<2")),
        ("2.2.2", ("torch==2.2.2.*", "numpy<2")),
        ("2.7", ("torch==2.7.*", "numpy")),
        ("newest", ("torch<3", "numpy")),
    ],
)
def test_an_old_torch_gets_the_numpy_that_it_was_compiled_for(matrix, name, requirements):
    assert matrix.entry(name, (3, 11)).requirements == requirements


@pytest.mark.parametrize(("python", "out"), [((3, 11), ()), ((3, 12), ("2.1",))])
def test_what_this_python_has_no_wheels_for_is_left_out_with_the_remedy(matrix, python, out):
    for name in ("2.1", "2.4", "2.5", "newest"):
        left_out = matrix.entry(name, python).left_out
        assert bool(left_out) == (name in out)
        if left_out:
            assert "no wheels for Python 3.12" in left_out and "PYTHON=python3.11" in left_out


@pytest.mark.parametrize(("name", "said"), [("2.0", "from 2.1 on"), ("latest", "no version of")])
def test_another_version_is_one_sentence_and_status_1(name, said):
    command = [sys.executable, TOOLS / "test_matrix.py", "--torch", name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr and done.stderr.count("\n") == 1
