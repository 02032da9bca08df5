"""Has `mim train normfix_mm` work from a wheel, too: hatchling's hook.

OneDL's mim (0.5.1) takes the folder of the first file in a package's RECORD for the package. pip
sorts RECORD, where the console command (../../../bin/normfix) and normfix_mm-VERSION.dist-info/
stand before normfix_mm/. A folder whose name begins with + stands before them all, so what mim
looks for lies there a second time. In an editable installation mim looks into the checkout, and
upstream's mim looks for a folder by the package's name.
"""

from __future__ import annotations

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FIRST = "+normfix_mm/.mim"


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        for path in [*root.glob("configs/**/*"), *root.glob("tools/*")]:
            if path.is_file() and "__pycache__" not in path.parts:
                place = path.relative_to(root).as_posix()
                build_data["force_include"][str(path)] = f"{FIRST}/{place}"
