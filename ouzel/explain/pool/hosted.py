"""A pool over a model store, as TorchServe's handler needs it: rows name their models."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, OuzelError, Unavailable
from ouzel.explain import hosted, options, recording
from ouzel.explain.batch_metrics import BatchMetrics, Value
from ouzel.explain.faults import internal
from ouzel.explain.forms import addressed
from ouzel.explain.limits import Limits
from ouzel.explain.pool.service import PoolService, default_memory
from ouzel.explain.pool.statistics import PoolStatistics
from ouzel.explain.reading import refused
from ouzel.explain.requests import RawRequest, Reply
from ouzel.model_file import ModelFile
from ouzel.model_files import ModelFiles
from ouzel.model_names import POOL, POOL_VERSION, check_name
from ouzel_protos.v1 import explain_pb2 as pb

logger = logging.getLogger(__name__)
STORE, MEMORY, PROCESSES = "OUZEL_POOL_STORE", "OUZEL_POOL_MB", "OUZEL_POOL_PROCESSES"
_ADDRESS = ("model", "version", "digest")
_BEFORE = 16  # models that are loaded before they are asked


class StorePool:
    """Answers rows for the models of a store.

    Args:
        store: The folder.
        pool: That computes.

    Attributes:
        folder: The folder.
        pool: That computes.
    """

    def __init__(self, store: Path, pool: PoolService) -> None:
        self.folder, self.pool = store, pool
        self._files = ModelFiles(store)
        self._any: ModelFile | None = None
        self._told, self._metrics = PoolStatistics(), BatchMetrics(POOL, POOL_VERSION)

    @classmethod
    def from_environment(
        cls, *, device: str, threads: int, record: recording.Record | None, warm_rows: Sequence[int]
    ) -> StorePool:
        """As `ouzel up` has set it: $OUZEL_POOL_STORE; $OUZEL_POOL_MB for each process, or of $OUZEL_POOL_PROCESSES."""
        memory = int(os.environ.get(MEMORY) or 0) * 2**20
        pool = PoolService(
            device=device,
            limits=Limits.from_environment(),
            threads=threads,
            record=record,
            memory_bytes=memory or default_memory(device) // int(os.environ.get(PROCESSES) or 1),
            warm_rows=warm_rows,
        )
        return cls(Path(os.environ[STORE]), pool)

    def begin(self) -> None:
        """Load a first model, and default versions of others beside the first requests.

        A process in the place of one that has died loads the others when they are asked for.

        Raises:
            FailedPrecondition: No model of the store can be loaded.
        """
        files = list(self._files.defaults().values())
        for number, file in enumerate(files):
            if self._load(file):
                self._any = file
                if hosted.started_again():  # what callers wait for goes first
                    return
                rest = files[number + 1 :][:_BEFORE]
                threading.Thread(target=self._load_all, args=(rest,), name="ouzel-pool", daemon=True).start()
                return
        raise FailedPrecondition(f"no model of {self.folder} can be loaded")

    def answer(self, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]]) -> list[tuple[str, Reply]]:
        """Answer a batch.

        Args:
            rows: Parts and headers of each.

        Returns:
            For each its media type and its reply.
        """
        requests: list[RawRequest] = []
        replies: dict[int, Reply] = {}
        asked: dict[int, tuple[ModelFile, RawRequest]] = {}
        for number, (row, headers) in enumerate(rows):
            try:
                parts, address = addressed(row, _ADDRESS)
                requests.append(hosted.request_of(parts, headers))
                asked[number] = self._file(address, requests[number]), requests[number]
            except OuzelError as error:
                if len(requests) == number:
                    requests.append(hosted.request_of({}, headers))
                replies[number] = refused(pb.Explanation(), error)
            except Exception as error:  # noqa: BLE001 - one row is no reason to fail the others
                if len(requests) == number:
                    requests.append(RawRequest())
                replies[number] = refused(pb.Explanation(), internal(error))
        if asked:
            replies |= zip(asked, self.pool.answer(list(asked.values())), strict=True)
        self._tell(list(replies.values()))
        return [(requests[number].media_type, replies[number]) for number in range(len(rows))]

    def _file(self, address: Mapping[str, str], request: RawRequest) -> ModelFile:
        name = address.get("model")
        if not name:
            if self._any is not None and request.refusal is None and options.parse(request.options).estimate_only:
                return self._any
            raise InvalidArgument("model: missing; name a model of the store", field="model")
        check_name(name)  # no reference that carries a version
        version = address.get("version", "")
        try:
            file = self._files.version(name, version) if version else self._files.file(name)
        except NotFound:  # it would tell the names of others
            what = f"version {version!r:.40} of {name!r:.80}" if version else f"{name!r:.80}"
            raise NotFound(f"model: {what} is not served here", field="model") from None
        if file.error:
            raise DataLoss(f"model: the archive of {name!r} {file.version} is damaged", field="model")
        if address.get("digest", file.digest) != file.digest:
            raise Unavailable(
                f"model: {name!r} {file.version} has been replaced a moment ago; try again", field="model"
            )
        return file

    def _load(self, file: ModelFile) -> bool:
        try:
            self.pool.load(file)
        except OuzelError as error:
            logger.warning("%s %s is not loaded: %s", file.name, file.version, error)
            return False
        return True

    def _load_all(self, files: Sequence[ModelFile]) -> None:
        for file in files:
            if self.pool.statistics().evictions:  # there is no more room
                return
            try:
                self._load(file)
            except Exception:
                logger.exception("%s %s is not loaded", file.name, file.version)

    def _tell(self, replies: Sequence[Reply]) -> None:
        """Metrics of a batch, and what has become of the pool."""
        now, before = self.pool.statistics(), self._told
        self._told = now
        values: list[Value] = []
        if now != before:
            gauges = (("networks", "Count", now.networks), ("heads", "Count", now.heads), ("bytes", "Bytes", now.bytes))
            values = [(f"pool_{name}", unit, str(value), "GAUGE") for name, unit, value in gauges]
        for name in ("hits", "misses", "evictions"):
            if more := getattr(now, name) - getattr(before, name):
                values.append((f"pool_{name}_total", "Count", str(more), "COUNTER"))
        if replies or values:
            self._metrics.tell(replies, values)
