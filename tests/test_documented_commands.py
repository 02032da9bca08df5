"""Every command on a page of the documentation is one that its program takes.

Each is run in a folder that has `configs/` and `tools/` and nothing else: what is named in capitals
is not there, nor are COCO and ImageNet. So a command that is right ends with the sentence that
says which of them is missing, or does what needs none; one with an option that is gone, a config
of another name or a missing argument ends otherwise. That the commands do what they say is tested
beside each of them.
"""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from helpers.tool import call

from normfix import COMMANDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("configs/*/README.md")),
]
OURS = r"(?:python (?:tools/\w+\.py|-m normfix_mm\.\w+)|normfix [a-z][a-z-]*) [^`\n]+"


def commands(page: Path) -> list[str]:
    """Those with arguments, from blocks and from sentences."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    text = re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL)
    blocks = [*re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)]
    blocks += re.findall(r"^    .*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    found = []
    for line in [*"\n".join(blocks).splitlines(), *spans]:
        match = re.search(OURS, line.partition("  #")[0])
        if match and "{" not in line:
            found.append(match[0].strip().strip('"'))
    return list(dict.fromkeys(found))


DOCUMENTED = [
    pytest.param(command, id=f"{page.relative_to(ROOT)}: {command[:60]}")
    for page in PAGES
    for command in commands(page)
]
# Names of the pages that a real file of the checkout stands for.
NAMES = {
    "mask_rcnn/$NAME.py": "mask_rcnn/mask-rcnn_r50_fpn_fixnorm_8xb2-24e_coco.py",
    "ocnet/NAME.py": "ocnet/ocnet-base_r101-d8_fixnorm_4xb2-40k_cityscapes-769x769.py",
}
ABSENT = (
    "does not exist|is no folder|is not a folder|are not here|no such|no file|is missing|no run|"
    "there is no|not found"
)


def run(words: list[str]) -> None:
    """Run the words of a command in this process."""
    if words[0] == "normfix":
        return import_module(f"normfix_mm.{COMMANDS[words[1]][0]}").main(words[2:], words[1])
    if words[1] != "-m":
        return call(words[1].removeprefix("tools/"), *words[2:])
    module = Path(import_module(words[2]).__file__)
    return call(module.with_name("__main__.py"), *words[3:])


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_documented_command_is_accepted(command, tmp_path, monkeypatch, capsys):
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for name, file in NAMES.items():
        command = command.replace(name, file)
    command = re.sub(r"\$\(.*?\)", "CHECKPOINT", command)
    command = re.sub(r"\[[^\]]*\]|…", "", command)
    with pytest.raises(SystemExit) as end:
        run(shlex.split(command))
    said = str(end.value.code) if end.value.code != 2 else capsys.readouterr().err
    assert re.search(ABSENT, said, re.IGNORECASE), said
