"""What the service has found out for an audit, for the process that runs it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Archive:
    """A model of the store that the owner of the call may see.

    Attributes:
        path: Of its file.
        digest: "sha256:..." of the weights that it has.
        changed: When the file was changed last, in nanoseconds: other labels may come with the same weights.
    """

    path: str
    digest: str
    changed: int = 0


@dataclass(frozen=True)
class Task:
    """An audit to run. The request says the rest.

    Attributes:
        owner: Who calls.
        model: Whose prediction is audited, if it is a model of the store.
        surrogate: Whose maps stand in, if a surrogate is named.
        trace: The context that the audit's span is below, of `tracing.carried`.
    """

    owner: str
    model: Archive | None = None
    surrogate: Archive | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Task:
        """The reverse of `to_dict`."""
        model, surrogate = (Archive(**values[name]) if values[name] else None for name in ("model", "surrogate"))
        return cls(values["owner"], model, surrogate, values["trace"])


@dataclass(frozen=True)
class ResidentOptions:
    """The settings of the process that audits.

    Attributes:
        uploads: Folder of the data sets of callers, or "s3://BUCKET/PREFIX".
        formats: Folder in which the faster memory formats of networks are remembered.
        endpoints: Other services that callers may name, as `ouzel.endpoints.description.file` reads them.
        models: How many models stay in memory.
        threads: Audits at a time.
        patience: Seconds in which a caller must answer a question.
        cache: Folder for files of data sets that lie in a bucket.
    """

    uploads: str | Path
    formats: Path
    endpoints: Mapping[str, Any] = field(default_factory=dict, repr=False)
    models: int = 4
    threads: int = 10
    patience: float = 30.0
    cache: Path | None = None
