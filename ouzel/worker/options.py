"""What can be chosen about a worker, with defaults that fit one machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ouzel import gpus
from ouzel.buckets import is_bucket, located
from ouzel.checks import at_least, within
from ouzel.databases.urls import is_postgres
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.file import registered
from ouzel.errors import InvalidArgument
from ouzel.ledger import Ledger, open_ledger
from ouzel.ledger.settings import settings
from ouzel.ledger_folder import chosen
from ouzel.ledger_folder import known as settings_known
from ouzel.telemetry.metrics import MetricsOptions
from ouzel.worker import kinds
from ouzel.worker.auditing.task import ResidentOptions
from ouzel.worker.catalog.catalog import Budget
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.processes.ray_options import RayOptions, check_shared
from ouzel.worker.quotas import file as quotas_file
from ouzel.worker.runner.runner import RunnerOptions
from ouzel.worker.runner.supervisor import Slot
from ouzel.worker.store.limits import OwnerLimits
from ouzel.worker.store.retry_policy import Retries
from ouzel.worker.webhooks import receivers
from ouzel_protos.local import state_dir

_LONGEST_LINK = 7 * 86_400  # s, of S3
MEMORY_FORMATS = "memory-formats"  # as the services call it, where model processes remember theirs


@dataclass(frozen=True)
class WorkerOptions:
    """The options of a worker; the defaults fit one machine.

    Attributes:
        state: Folder of the token and the address; jobs, artifacts and logs are in its folder `jobs`.
        store: URL of the job store; "" is SQLite in the state folder.
        artifacts: Folder of what jobs leave behind, or "s3://BUCKET/PREFIX"; shared by all workers of a store.
        artifact_links: How long links to artifacts in a bucket are valid, in seconds; 0 gives none.
        models: The model store: a folder, or "s3://BUCKET/PREFIX".
        datasets: Folders that callers may search, by the name that they use.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        slots: Jobs at a time; None is one per GPU, or one on a machine without.
        tokens: File of lines "OWNER TOKEN", for others than the local user.
        reflection: Whether clients may ask for the methods of the services.
        budget: What one job may cost.
        retries: How often failed jobs are tried again.
        runner: How jobs are claimed and supervised.
        checkpoint: Time between two checkpoints of a job, in seconds.
        uploads: Folder of the data sets of callers, or "s3://BUCKET/PREFIX"; shared by all workers of a store.
        patience: Time that an upload may be silent, in seconds.
        schemes: Schemes of URIs that callers may name as data sets, through fsspec and with the worker's own rights.
        serving_state: State folder of the TorchServe that tuned models are published in; None is `state`.
        serving_rest: URL of a TorchServe on another machine, over the same model store.
        serving_management: URL of its management API.
        serving_key_file: Its file of tokens.
        serving_quorum: How many serving agents must serve a version before it counts as served and may become the
            default; 0 without agents.
        audit_endpoint_file: File of other services whose predictions callers may have audited; see
            `ouzel.endpoints.description.file`.
        audit_endpoint_flags: More of them, NAME=URL each.
        audit_warm: Whether the process that audits is started with the worker, and not by the first audit.
        audit_models: How many models that process keeps in memory.
        ledger: Folder of the log of audits, publications, promotions, deletions and refusals, see
            `ouzel.ledger.settings`; None is `ledger` in the state folder, or beside the artifacts where workers share a
            PostgreSQL store.
        ledger_database: URL of its database; "" is what the folder says. A new log beside a PostgreSQL store is in the
            same database.
        ledger_tiles: Where it is published: a folder, or "s3://BUCKET/PREFIX"; "" is what the folder says.
        no_ledger: Whether nothing is recorded.
        no_fork: Whether each job starts an interpreter and imports what it needs. By default jobs are forked from a
            process that has done so, which takes some 450 MiB of memory, and begin at once.
        metrics: Where its numbers are read; None serves none.
        webhooks: File of the addresses that may be told of jobs, see `ouzel.worker.webhooks.receivers`.
        quotas: File of what owners may use, see `ouzel.worker.quotas.file`.
        ray: The Ray cluster that jobs run on; None runs them on this machine. The store must be PostgreSQL then, and
            the artifacts be named.

    Raises:
        InvalidArgument: A value is out of its range.
    """

    state: Path = field(default_factory=state_dir)
    store: str = ""
    artifacts: str | Path | None = None
    artifact_links: float = 600.0
    models: str | Path = Path("model_store")
    datasets: Mapping[str, Path] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 7090
    slots: int | None = None
    tokens: Path | None = None
    reflection: bool = False
    budget: Budget = field(default_factory=Budget)
    retries: Retries = field(default_factory=Retries)
    runner: RunnerOptions = field(default_factory=RunnerOptions)
    checkpoint: float = 10.0
    uploads: str | Path | None = None
    patience: float = 30.0
    schemes: frozenset[str] = frozenset()
    serving_state: Path | None = None
    serving_rest: str = ""
    serving_management: str = ""
    serving_key_file: Path | None = None
    serving_quorum: int = 0
    audit_endpoint_file: Path | None = None
    audit_endpoint_flags: tuple[str, ...] = ()
    audit_warm: bool = False
    audit_models: int = 4
    ledger: Path | None = None
    ledger_database: str = ""
    ledger_tiles: str = ""
    no_ledger: bool = False
    no_fork: bool = False
    metrics: MetricsOptions | None = None
    webhooks: Path | None = None
    quotas: Path | None = None
    ray: RayOptions | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", self.state.expanduser().absolute())
        object.__setattr__(self, "models", located(self.models, "store"))
        at_least("serving_quorum", self.serving_quorum, 0)
        within("port", self.port, 0, 65535)
        if self.slots is not None:
            at_least("slots", self.slots, 1)
        at_least("audit_models", self.audit_models, 1)
        within("artifact_links", self.artifact_links, 0, _LONGEST_LINK, unit="s")
        if self.ray is not None:
            check_shared(self.store, self.artifacts)
        given = {name: bool(getattr(self, name)) for name in ("serving_rest", "serving_management", "serving_key_file")}
        if len(set(given.values())) > 1:
            missing = ", ".join(name for name, there in given.items() if not there)
            raise InvalidArgument(f"{missing}: give all three of {', '.join(given)}, or none", field=missing)
        if self.serving_quorum and (self.serving_key_file is not None or self.serving_state is not None):
            raise InvalidArgument(
                "serving_quorum: agents tell what is served; name no TorchServe beside them", field="serving_quorum"
            )
        if is_bucket(self.artifact_place) and self._shared:
            for name in ("uploads", "ledger"):  # whose default is beside the artifacts, where all workers find it
                if getattr(self, name) is None and not (name == "ledger" and self.no_ledger):
                    raise InvalidArgument(
                        f"{name}: name its folder, which all workers share; there is none beside artifacts in a bucket",
                        field=name,
                    )
        for name in ("serving_rest", "serving_management"):
            if (url := getattr(self, name)) and not url.startswith("http://"):
                raise InvalidArgument(f"{name}: {url!r:.80} does not begin with http://", field=name)

    @property
    def folder(self) -> Path:
        """Folder of jobs, logs and the token."""
        return self.state / "jobs"

    @property
    def store_url(self) -> str:
        """URL of the job store."""
        return self.store or f"sqlite://{self.folder / 'jobs.db'}"

    @property
    def artifact_place(self) -> str | Path:
        """Folder of what jobs leave behind, or the URL of a bucket."""
        return located(self.artifacts or self.folder / "artifacts", "artifacts")

    @property
    def _artifact_folder(self) -> Path:
        """Where the folders of data sets and of the log are beside the artifacts; a bucket has no such place."""
        return self.folder / "artifacts" if is_bucket(self.artifact_place) else Path(self.artifact_place)

    @property
    def upload_place(self) -> str | Path:
        """Folder of the data sets of callers, or the URL of a bucket."""
        return located(self.uploads or self._artifact_folder.parent / "datasets", "uploads")

    @property
    def _local(self) -> Path | None:
        """Folder for what is fetched from buckets."""
        places = (self.artifact_place, self.upload_place, self.models)
        return self.folder / "fetched" if any(map(is_bucket, places)) else None

    @property
    def ledger_folder(self) -> Path | None:
        """Folder of the log; None without one."""
        if self.no_ledger:
            return None
        if self.ledger is not None:
            return self.ledger.expanduser().absolute()
        return chosen(self.state, self.store, self._artifact_folder)

    @property
    def _shared(self) -> bool:
        """Whether several workers use the store."""
        return is_postgres(self.store)

    def open_ledger(self) -> Ledger | None:
        """Opens the log; a new one is created. The caller closes it.

        Raises:
            OuzelError: See `ouzel.ledger.open_ledger`.
        """
        if (folder := self.ledger_folder) is None:
            return None
        known = self.ledger_database or ("" if settings_known(folder) or not self._shared else self.store)
        return open_ledger(settings(folder, database=known, tiles=self.ledger_tiles))

    @property
    def serving(self) -> Mapping[str, str] | None:
        """Where TorchServe is, as `Server.found` takes it; None where agents follow the store."""
        if self.serving_quorum or is_bucket(self.models):
            return None
        if self.serving_key_file is None:
            named = {"named": "yes"} if self.serving_state else {}  # then it is meant to be there
            return {"state": str((self.serving_state or self.state).expanduser().absolute()), **named}
        key_file = str(self.serving_key_file.expanduser().absolute())
        return {"rest": self.serving_rest, "management": self.serving_management, "key_file": key_file}

    @cached_property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """The services that can be audited, by the name that callers use. Raises OuzelError."""
        return registered(self.audit_endpoint_file, self.audit_endpoint_flags)

    @cached_property
    def receivers(self) -> receivers.Receivers:
        """Who may be told of jobs. Raises OuzelError."""
        return receivers.read(self.webhooks)

    @cached_property
    def limits(self) -> OwnerLimits:
        """What owners may use. Raises OuzelError."""
        return quotas_file.read(self.quotas, self.runner.limits.of(""))

    @property
    def auditing(self) -> ResidentOptions:
        """The settings of the process that audits."""
        return ResidentOptions(
            self.upload_place,
            self.state / MEMORY_FORMATS,
            endpoints=self.endpoints,
            models=self.audit_models,
            patience=self.patience,
            cache=self.environment.upload_cache,
        )

    @property
    def environment(self) -> JobEnvironment:
        """The settings for the processes of jobs."""
        # The worker's own state folder is not that of a process on another node.
        elsewhere = self.ray is not None and self.serving_key_file is None and self.serving_state is None
        return JobEnvironment(
            self.store_url,
            self.artifact_place,
            self.models,
            self.upload_place,
            datasets=self.datasets,
            serving=None if elsewhere else self.serving,
            checkpoint_seconds=self.checkpoint,
            retries=self.retries,
            endpoint_file=str(self.audit_endpoint_file.expanduser().absolute()) if self.audit_endpoint_file else "",
            endpoint_flags=self.audit_endpoint_flags,
            ledger=str(self.ledger_folder or ""),
            quorum=self.serving_quorum,
            local=self._local,
        )


def slots(options: WorkerOptions) -> tuple[Slot, ...]:
    """Room for jobs: a GPU to each, or a share of the cores.

    Args:
        options: Say how many jobs run at a time.
    """
    if options.ray is not None:  # Ray knows where there is room; this is how many jobs it gets at a time
        reserved = {kind: options.ray.of(kind).gpus for kind in kinds.NAMES}
        return tuple(Slot(f"ray{number}", {}, by_kind=reserved) for number in range(options.slots or 1))
    if ids := gpus.visible():
        chosen = [ids[number % len(ids)] for number in range(options.slots or len(ids))]
        return tuple(Slot(f"gpu{each}", {gpus.VISIBLE: each}, gpus=1) for each in chosen)
    count = options.slots or 1
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    return tuple(Slot(f"cpu{number}", {"OMP_NUM_THREADS": threads}) for number in range(count))
