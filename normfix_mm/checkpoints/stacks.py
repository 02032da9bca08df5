"""The one place that knows of two OpenMMLab stacks.

torch >= 2.6 loads checkpoints with `weights_only=True`. Upstream mmengine (0.10.7) stores its log
in them as `HistoryBuffer` objects, which that loader refuses, so nothing could be resumed; the
maintained fork allows them itself. Here the few names such a checkpoint needs are allowed, each by
itself, instead of loading arbitrary pickles.
"""

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

_STATISTICS = ("min", "max", "mean", "current")


def _statistic(owner: type, name: str):
    """What `getattr` may do in a checkpoint: name a statistic of a HistoryBuffer."""
    if owner is HistoryBuffer and name in _STATISTICS:
        return getattr(owner, name)
    raise ValueError(
        f"The checkpoint asks for `{name}` of {owner!r}, which no mmengine log contains; load it "
        "only if you trust its source, with torch.load(..., weights_only=False)."
    )


def allow_history_buffers() -> None:
    """Let `torch.load(..., weights_only=True)` read mmengine's log."""
    if not hasattr(torch.serialization, "add_safe_globals"):
        return
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "bool")}
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (_statistic, "builtins.getattr"),
            np.ndarray,
            np.dtype,
            *dtypes,
            # numpy 2 renamed the package; checkpoints of numpy 1 carry the old names.
            *(
                (f, f"numpy.{core}.multiarray.{f.__name__}")
                for core in ("core", "_core")
                for f in (reconstruct, scalar)
            ),
        ]
    )
