"""Has the config the settings of the model that its checkpoint was trained with?"""

from __future__ import annotations

from collections.abc import Mapping

from normfix_mm.checkpoints.trained_settings import other_settings, other_settings_sentence
from normfix_mm.preflight.notes import warn


def warn_of_other_settings(checkpoint: Mapping, path: str, cfg) -> None:
    """Say which settings of the model were others in the training."""
    changed = other_settings(checkpoint.get("meta"), cfg)
    if changed:
        warn(other_settings_sentence(changed, path))
