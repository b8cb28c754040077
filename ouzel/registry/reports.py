"""What agents tell of the TorchServe beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from ouzel.registry.registry import Told

_log = logging.getLogger(__name__)
_FORM = 1
_LONGEST = 500  # characters of an error


class Serves(StrEnum):
    """How a version is on a node."""

    SERVED = "served"  # TorchServe has answered a trial with it
    STORED = "stored"  # its archive is here, and it is not loaded
    FAILED = "failed"  # it was tried and cannot be served here, or its archive is damaged


@dataclass(frozen=True)
class VersionReport:
    """A version on a node.

    Attributes:
        state: How it is.
        sha256: Of its archive.
        error: Why it cannot be served.
    """

    state: Serves
    sha256: str
    error: str = ""


@dataclass(frozen=True)
class AgentReport:
    """What an agent tells.

    Attributes:
        node: Its name.
        beat: Changes with each report, also between two runs of the agent.
        time: When it was made, in seconds since the epoch, by the clock of the node. For people.
        serving: Whether TorchServe runs.
        note: What keeps the agent from its work; "" if nothing does.
        defaults: The version for callers who name none, by model.
        versions: By model and version.
        seen: When the store got it, in seconds since the epoch, by its clock; 0 before.
    """

    node: str
    beat: str
    time: float
    serving: bool
    note: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, Mapping[str, VersionReport]] = field(default_factory=dict)
    seen: float = 0.0

    def of(self, name: str, version: str, sha256: str) -> VersionReport | None:
        """What it tells of an archive; None if it has not come to it yet."""
        found = self.versions.get(name, {}).get(version)
        return found if found is not None and found.sha256 == sha256 else None

    @property
    def errors(self) -> Mapping[str, str]:
        """Why versions cannot be served, by "NAME@VERSION"."""
        return {
            f"{name}@{version}": each.error
            for name, versions in self.versions.items()
            for version, each in versions.items()
            if each.error
        }

    def to_json(self) -> bytes:
        """The report as bytes."""
        values = asdict(self)
        del values["seen"]
        for versions in values["versions"].values():
            for each in versions.values():
                each["error"] = each["error"][:_LONGEST]
        return json.dumps({"form": _FORM, **values, "note": self.note[:_LONGEST]}, sort_keys=True).encode()


def parse_reports(told: Mapping[str, Told]) -> tuple[AgentReport, ...]:
    """The reports by the names of their nodes. Those that cannot be read are left out, and said in the log."""
    reports = []
    for node, each in sorted(told.items()):
        try:
            values = json.loads(each.content)
            if values.pop("form") != _FORM:
                raise ValueError("it is of another form")
            if values["node"] != node:
                raise ValueError(f"it is of {values['node']!r:.80}")
            reports.append(_report(values, each.modified))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("the report of the serving agent %s cannot be read: %s", node, error)
    return tuple(reports)


def _report(values: dict[str, Any], seen: float) -> AgentReport:
    versions = {
        str(name): {
            str(version): VersionReport(Serves(each["state"]), str(each["sha256"]), str(each["error"]))
            for version, each in found.items()
        }
        for name, found in values["versions"].items()
    }
    return AgentReport(
        str(values["node"]),
        str(values["beat"]),
        float(values["time"]),
        bool(values["serving"]),
        str(values["note"]),
        {str(name): str(version) for name, version in values["defaults"].items()},
        versions,
        seen,
    )
