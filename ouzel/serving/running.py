"""Services that were started: where they are, and their tokens."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ouzel.serving import processes
from ouzel.torchserve import rest
from ouzel.torchserve.server import Server
from ouzel_protos.local import Serving, token


@dataclass(frozen=True)
class RunningServing:
    """One run of TorchServe.

    Attributes:
        pid: Of the Java process.
        grpc: "host:port" of inference.
        rest: URL of inference.
        management: URL of management.
        metrics: URL of metrics.
        key_file: The file with the tokens.
        models: Names of the models.
        versions: (name, version) of all that were loaded, the default of each name first.
        unloaded: (name, version) of the same models that were not loaded.
        log: TorchServe's log.
        worker: "host:port" where jobs are accepted, or "".
        gateway: (URL of REST, "host:port" of gRPC) of the gateway; None without one.
        kept: Parts that ran already and were left as they are.
    """

    pid: int
    grpc: str
    rest: str
    management: str
    metrics: str
    key_file: Path
    models: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    unloaded: tuple[tuple[str, str], ...]
    log: Path
    worker: str  # "host:port" where jobs are accepted, or ""
    _process: subprocess.Popen[bytes] | None  # None for one that another command started
    gateway: tuple[str, str] | None = None
    kept: tuple[str, ...] = ()  # parts that ran already, and were left as they are

    @classmethod
    def found(cls, recorded: Serving, log: Path) -> RunningServing:
        """What another command started and recorded. `versions` is not known then."""
        return cls(
            pid=recorded["pid"],
            grpc=recorded["grpc"],
            rest=recorded["rest"],
            management=recorded["management"],
            metrics=recorded["metrics"],
            key_file=Path(recorded["key_file"]),
            models=tuple(recorded["models"]),
            versions=(),
            unloaded=(),
            log=log,
            worker="",
            _process=None,
            kept=(processes.TORCHSERVE,),
        )

    @property
    def server(self) -> Server:
        """For calls of its management API."""
        return Server(self.rest, self.management, self.key_file, self.log)

    @property
    def inference_token(self) -> str:
        """For calls of inference."""
        return token(self.key_file, "inference")

    @property
    def management_token(self) -> str:
        """For calls of management."""
        return token(self.key_file, "management")

    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the Python workers of all models and versions."""
        by_model = (rest.workers(self.management, self.management_token, model, "all") for model in self.models)
        return tuple(worker["pid"] for workers in by_model for worker in workers)

    def poll(self) -> int | None:
        """Exit status of TorchServe, None while it runs; 0 for one of another command that has ended."""
        if self._process is not None:
            return self._process.poll()
        return None if processes.started(self.pid) else 0
