"""One row of a table of results, out of a config that has them all.

    options = dict(
        network=dict(r50={}, r101={'model.backbone.depth': 101}),
        lr=['optim_wrapper.optimizer.lr'],
        method=dict(baseline={}, ws={'model.backbone.normalize': dict(form='WS')}))
    rows = dict(
        r50_ws=dict(network='r50', method='ws', lr=0.1, top1=76.74), ...)

``options`` has a group for each thing that rows vary. A group is a dict of named options, each with
its settings, or a list of settings that take the row's value. A row names, for the groups in which
it departs from the config, the option or the value; the settings are merged into the config as
``--cfg-options`` are, group after group in the config's order. What else a row holds (its table,
the expected result) is for readers, and goes into the run's own config with the row's name.
"""

from __future__ import annotations

from collections.abc import Mapping

from normfix_mm.errors import BadInput, listing


def choose_row(cfg, name: str | None) -> None:
    """Make the config that of one row, in place; one without rows needs no name.

    Raises:
        BadInput: An unknown row, no name although the config has rows, or an unknown option.
    """
    rows, groups = cfg.get("rows"), cfg.get("options")
    if not rows:
        if name is not None:
            raise BadInput(f"The config has no rows, so there is no {name!r}; leave --row out.")
        return
    if name not in rows:
        said = "Name one with --row" if name is None else f"There is no row {name!r}"
        raise BadInput(f"{said}: the config is a table of {len(rows)} rows, {listing(rows, 6)}.")
    row = dict(rows[name])
    cfg.pop("rows"), cfg.pop("options", None)
    for group, options in (groups or {}).items():
        chosen = row.pop(group, None)
        if chosen is None:
            continue
        if not isinstance(options, Mapping):
            settings = dict.fromkeys(options, chosen)
        elif chosen in options:
            settings = _plain(options[chosen])
        else:
            raise BadInput(
                f"The row {name!r} has {group}={chosen!r}, which is none of the config's options "
                f"{listing(options)}; correct the row."
            )
        for key, value in settings.items():  # one by one: a later key may reach into a list
            cfg.merge_from_dict({key: value})
    cfg.row = dict(name=name) | row


def _plain(settings: Mapping) -> dict:
    """A dict of dicts, as ``Config.merge_from_dict`` wants it."""
    return {k: _plain(v) if isinstance(v, Mapping) else v for k, v in settings.items()}
