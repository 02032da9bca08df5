"""What README, CONTRIBUTING.md, the pages of docs/ and the pre-commit hooks say is so."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.tool import call

from normfix import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
TOOLS = (ROOT / "tools/README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| \[(\S+)\]\(\1\) \|.*\| `(.*)` \|$", TOOLS, re.MULTILINE)


def test_every_file_of_tools_is_listed():
    listed = re.findall(r"\[(\S+)\]\(\1\)", TOOLS)
    there = {path.name for path in (ROOT / "tools").iterdir() if path.is_file()} - {"README.md"}
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize(("tool", "example"), [e for e in EXAMPLES if e[0].endswith(".py")])
def test_an_example_names_its_command_and_options_that_it_has(tool, example, capsys):
    words = shlex.split(example)
    assert words[1] == f"tools/{tool}"
    if tool in ("setup_env.py", "test_matrix.py"):  # which import their neighbours
        command = [sys.executable, ROOT / "tools" / tool, "--help"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        with pytest.raises(SystemExit) as ended:
            call(tool, "--help")
        assert ended.value.code == 0
        said = capsys.readouterr().out
    assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[\w-]+", said))
    assert all((ROOT / word).is_file() for word in words if word.startswith("configs/"))


@pytest.mark.parametrize(("tool", "example"), [e for e in EXAMPLES if e[0].endswith(".sh")])
def test_an_example_of_a_launcher_has_the_arguments_that_it_wants(tool, example):
    usage = subprocess.run(
        ["bash", ROOT / "tools" / tool], capture_output=True, text=True, check=False
    )
    assert usage.returncode == 2
    wanted = usage.stderr.split("[")[0].split()[2:]
    given = [word for word in shlex.split(example.split(f"tools/{tool}")[1]) if word[0] != "-"]
    assert len(given) == len(wanted)
    assert given.index("CONFIG") == wanted.index("CONFIG")


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_commands_of_a_page_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [link for link in links if link and "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []
    # A NAME, a $NAME or a {choice} stands for several files.
    named = re.findall(r"\b((?:tools|benchmarks|configs)/[\w./-]+\.(?:py|sh))\b", text)
    named = [name for name in named if "NAME" not in name]
    assert [n for n in named if not ((ROOT / n).exists() or (page.parent / n).exists())] == []
    assert set(re.findall(r"`normfix ([a-z][a-z-]*)", text)) <= set(COMMANDS)


def test_every_console_command_is_listed():
    listed = set(re.findall(r"`normfix ([a-z][a-z-]*)", TOOLS))
    assert listed == set(COMMANDS)


def test_every_page_can_be_found_from_the_readme():
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text(encoding="utf-8"))
        near = {(page.parent / link).resolve() for link in links if "://" not in link}
        ahead += sorted(near - seen)
    assert set(ROOT.glob("docs/*.md")) <= seen


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_the_rooms_stand_in_the_order_of_the_contract():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = text.split("## Where things lie")[1].split("```")[1]
    rooms = [re.split(r"\s{2,}", line)[0] for line in listed.strip().splitlines()]
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contract = ast.literal_eval(re.search(r"^layers = (\[.*?\])", settings, re.S | re.M)[1])
    assert rooms == contract
    folders = {p.parent.name for p in (ROOT / "normfix_mm").glob("*/__init__.py")}
    assert folders <= {room for line in rooms for room in line.split(" | ")}


def test_pre_commit_runs_what_make_lint_runs():
    recipe = (ROOT / "Makefile").read_text().split("\nlint: setup\n")[1].split("\n\n")[0]
    commands = [line.strip().removeprefix("$(BIN)/") for line in recipe.splitlines()]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == commands
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"\.PHONY: (.*)", text)[1].split()) - {"help"}
    assert set(re.findall(r'@echo "make (\S+)', text)) == targets


def _sentences() -> list[str]:
    """What the package may say: the texts of its code, with a gap where a value stands."""
    texts = []
    for path in sorted((ROOT / "normfix_mm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_the_sentences_of_the_troubleshooting_page_are_said():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    heads = re.findall(r"^- ((?:`[^`]+`(?:, )?)+):", page, re.MULTILINE)
    said = _sentences()
    explained = [" ".join(s.split()) for head in heads for s in re.findall(r"`([^`]+)`", head)]
    assert len(explained) > 25
    gaps = [".*?".join(map(re.escape, sentence.split("…"))) for sentence in explained]
    assert [e for e, gap in zip(explained, gaps) if not any(re.search(gap, s) for s in said)] == []
