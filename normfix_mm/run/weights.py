"""The weights that a config starts from, made where they are not there yet.

A config may start from `checkpoints/efficientnet-lite0.pth`, which is nowhere to be downloaded: the
weights come with a package of the index, under other names. A file that is missing and has the name
of such a package is converted from it, before the checks.
"""

from __future__ import annotations

import os
from pathlib import Path

from normfix_mm.checkpoints import files
from normfix_mm.convert.convert import convert
from normfix_mm.convert.packages import packaged
from normfix_mm.preflight.checkpoints import pretrained


def provide_weights(cfg) -> None:
    """Write the missing files of packaged weights that an `init_cfg` of the model names.

    Raises:
        BadInput: The package is not installed.
    """
    for path, _ in pretrained(cfg.get("model", {})):
        if os.path.exists(path):
            continue
        source = packaged(Path(path).stem)
        if source is not None:
            state, meta = files.read(source)
            made = convert(state, meta, file_name=source.name)
            files.write(path, made.state, made.meta)
            print(f"Made {path} of the package {source.parent.parent.name}.")
