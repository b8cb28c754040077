"""The settings that a worker gives to the processes of all its jobs: where things are, and how to run.

`WorkerOptions.environment` makes it, the runner hands it to the executor, and a job's process reads it as
`JobContext.environment`. A new setting of jobs is a field here and an option there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ouzel.buckets import located
from ouzel.registry.mirror import Mirror
from ouzel.registry.opening import mirrored, open_registry
from ouzel.worker.artifacts.opening import open_artifacts
from ouzel.worker.artifacts.protocol import Artifacts
from ouzel.worker.store.retry_policy import Retries

if TYPE_CHECKING:
    from ouzel.torchserve.quorum import Agents


@dataclass(frozen=True)
class JobEnvironment:
    """The settings that all jobs of a worker have in common.

    Attributes:
        store: URL of the job store.
        artifacts: Folder of what jobs leave behind, or "s3://BUCKET/PREFIX"; shared by all workers of a store.
        models: The model store: a folder, or "s3://BUCKET/PREFIX".
        uploads: Folder of the data sets of callers, or "s3://BUCKET/PREFIX"; shared by all workers of a store.
        datasets: Folders that callers may search, by the name that they use.
        serving: The place of the TorchServe that serves tuned models, as `ouzel.torchserve.server.Server.found` takes
            it; None without a TorchServe.
        checkpoint_seconds: Time between two checkpoints of a job, in seconds; 0 saves at every chance.
        retries: How often failed jobs are tried again.
        endpoint_file: The operator's file of services that can be audited; "" without one.
        endpoint_flags: More of them, NAME=URL each.
        quorum: How many serving agents must serve a version before it counts as served; 0 without agents, where
            `serving` counts.
        local: Folder on this machine for what was fetched from a bucket and can be fetched again; None without one.
        ledger: Folder of the log that jobs write entries to, see `ouzel.ledger.settings`; "" without one.
    """

    store: str
    artifacts: str | Path
    models: str | Path
    uploads: str | Path
    datasets: Mapping[str, Path] = field(default_factory=dict)
    serving: Mapping[str, str] | None = None
    checkpoint_seconds: float = 10.0
    retries: Retries = field(default_factory=Retries)
    endpoint_file: str = ""
    endpoint_flags: tuple[str, ...] = ()
    ledger: str = ""
    quorum: int = 0
    local: Path | None = None

    @property
    def cache(self) -> Path:
        """Folder of what later jobs may find useful: features of images."""
        return (self.local or Path(self.artifacts).parent) / "features"

    @property
    def upload_cache(self) -> Path | None:
        """Folder for files of data sets that lie in a bucket."""
        return self.local and self.local / "datasets"

    @property
    def model_store(self) -> tuple[Path, Mirror | None]:
        """What `ModelFiles` and `ModelStore` take."""
        return mirrored(self.models, self.local)

    def agents(self) -> Agents | None:
        """The serving agents of the model store, seen for the first time now; None without agents."""
        if not self.quorum:
            return None
        from ouzel.torchserve.quorum import Agents  # most jobs never need it

        return Agents(open_registry(self.models), self.quorum)

    def open_artifacts(self, *, check: bool = False) -> Artifacts:
        """What jobs leave behind.

        Args:
            check: Whether to see if it can be written.

        Raises:
            OuzelError: A package is missing, or it cannot be written.
        """
        opened = open_artifacts(self.artifacts, self.local and self.local / "artifacts")
        if check:
            opened.check()
        return opened

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON."""
        values = dataclasses.asdict(self)
        values |= {name: str(values[name]) for name in ("artifacts", "models", "uploads")}
        values["local"] = self.local and str(self.local)
        values["datasets"] = {name: str(folder) for name, folder in self.datasets.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JobEnvironment:
        """The reverse of `to_dict`."""
        given = dict(values)
        given |= {name: located(given[name], name) for name in ("artifacts", "models", "uploads")}
        given["local"] = given["local"] and Path(given["local"])
        given["datasets"] = {name: Path(folder) for name, folder in given["datasets"].items()}
        given["endpoint_flags"] = tuple(given["endpoint_flags"])
        given["retries"] = Retries(**given["retries"])
        return cls(**given)
