"""The operator's file of quotas. docs/quotas.md is the reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ouzel.checks import within
from ouzel.endpoints.description.table import Table
from ouzel.endpoints.description.values import text_of, toml_of
from ouzel.worker.store.limits import Limits, OwnerLimits

_FILE = "quotas file"
_DAILY = ("seconds_per_day", "gpu_seconds_per_day")
_WHOLE = {"queued": 1, "running": 1, "stored_bytes": 0}  # the least of each
_MOST = 2**53  # beyond it a number of JSON is no more exact


def read(path: Path | None, flags: Limits) -> OwnerLimits:
    """Reads the operator's file.

    Args:
        path: A TOML file; None leaves the limits of all owners as they are.
        flags: The limits of owners of whom the file says nothing.

    Raises:
        InvalidArgument: Names the field.
        NotFound: There is no such file.
    """
    if path is None:
        return OwnerLimits(flags)
    content = toml_of(text_of(path, _FILE), _FILE)
    document = Table(content)
    default = _limits(document.table("defaults"), flags)
    names, owners = list(document.mapping("owners")), Table(content).table("owners")
    document.finish()
    return OwnerLimits(default, {name: _limits(owners.table(name), default) for name in names})


def _limits(table: Table, default: Limits) -> Limits:
    """Those of a table; what it does not name is as in `default`."""
    values: dict[str, Any] = {name: table.number(name, None) for name in _DAILY}
    values |= {name: table.integer(name, None) for name in _WHOLE}
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():
        within(table.path(name), value, _WHOLE.get(name, 0), _MOST)
    table.finish()
    return replace(default, **given)
