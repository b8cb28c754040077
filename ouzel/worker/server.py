"""The worker: the service, the runner and the store in one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import psutil
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ouzel.errors import FailedPrecondition
from ouzel.forking.client import ForkServer
from ouzel.ledger import Ledger
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Recorder
from ouzel.telemetry.metrics import served
from ouzel.worker import kinds
from ouzel.worker.api import tokens
from ouzel.worker.api.audit_requests import LARGEST_ANSWER, LARGEST_REQUEST
from ouzel.worker.api.audit_service import AuditService
from ouzel.worker.api.auth import TokenInterceptor
from ouzel.worker.api.dataset_service import DatasetService
from ouzel.worker.api.decoding import ReadableInterceptor
from ouzel.worker.api.job_service import JobService
from ouzel.worker.api.model_service import ModelService
from ouzel.worker.api.observed import ObservedInterceptor, short
from ouzel.worker.artifacts import Artifacts
from ouzel.worker.auditing.pool import AuditPool
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.gauges import Looked, WorkerGauges
from ouzel.worker.isolated import Isolated
from ouzel.worker.metrics import WorkerMetrics
from ouzel.worker.options import WorkerOptions, slots
from ouzel.worker.processes.executor import Executor
from ouzel.worker.processes.open import open_executor
from ouzel.worker.runner.runner import Runner
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel.worker.webhooks.deliverer import Deliverer
from ouzel.worker.webhooks.sending import Sender
from ouzel_protos.local import WORKER, Worker
from ouzel_protos.v1 import audit_pb2, dataset_pb2, job_pb2, model_pb2
from ouzel_protos.v1.audit_pb2_grpc import add_AuditServiceServicer_to_server
from ouzel_protos.v1.dataset_pb2_grpc import add_DatasetServiceServicer_to_server
from ouzel_protos.v1.job_pb2_grpc import add_JobServiceServicer_to_server
from ouzel_protos.v1.model_pb2_grpc import add_ModelServiceServicer_to_server

_log = logging.getLogger(__name__)
_SERVICES = tuple(
    service
    for file in (job_pb2, model_pb2, dataset_pb2, audit_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
_NAMES = tuple(service.full_name for service in _SERVICES)
_METHODS = frozenset(f"/{service.full_name}/{method.name}" for service in _SERVICES for method in service.methods)
_SERVER_GRACE = 2.0  # s for calls in flight, after the jobs have stopped
_SETTINGS = [
    ("grpc.so_reuseport", 0),  # else a second server takes the same port, and half of the calls
    ("grpc.max_receive_message_length", LARGEST_REQUEST),  # other services take less, see ReadableInterceptor
    ("grpc.max_send_message_length", LARGEST_ANSWER + 2**20),  # with the pictures of an audit
    ("grpc.max_metadata_size", 16 * 2**10),
    ("grpc.absolute_max_metadata_size", 32 * 2**10),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
]
_MOST_CALLS = 2000  # at a time


def run(options: WorkerOptions, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        options: Of the worker.
        ready: Called with the address once it listens.

    Raises:
        OuzelError: It cannot start.
    """
    with _alone(options.state), ExitStack() as opened:
        metrics = WorkerMetrics()
        store = open_store(options.store_url, retries=options.retries, failed=metrics.database_failed)
        opened.callback(store.close)
        ledger = options.open_ledger()
        if ledger is not None:
            opened.callback(ledger.close)
        forks = None
        options.receivers  # noqa: B018 - a file that cannot be read ends the start
        if not options.no_fork:
            forks = ForkServer(kinds.libraries())
            opened.callback(forks.close)
        logs, environment = options.folder / "logs", options.environment
        executor = open_executor(logs, forks=forks, ray=options.ray, store=store, environment=environment)
        opened.callback(executor.close)
        asyncio.run(_serve(_Parts(options, store, ledger, forks, metrics, executor), ready))


@dataclass(frozen=True)
class _Parts:
    """What is opened before the services begin."""

    options: WorkerOptions
    store: Store
    ledger: Ledger | None
    forks: ForkServer | None
    metrics: WorkerMetrics
    executor: Executor


async def _serve(parts: _Parts, ready: Callable[[str], None]) -> None:
    forks = parts.forks
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    runner = _runner(parts)
    deliverer = Deliverer(parts.store, parts.options.receivers, Sender(), parts.metrics)
    async with _listening(parts, runner) as (address, drain):
        runner.start()
        deliverer.start()
        ready(address)
        if forks is not None:
            forks.warm()
        await stopping.wait()
        _log.info("stopping: %d jobs write their checkpoints", runner.running)
        await drain()
        await asyncio.to_thread(deliverer.close)


@asynccontextmanager
async def _listening(parts: _Parts, runner: Runner) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
    options, store, metrics, recorder = parts.options, parts.store, parts.metrics, Recorder(None, parts.ledger)
    own_token = options.folder / "token"
    owners = {tokens.own(own_token): tokens.LOCAL} | (tokens.read(options.tokens) if options.tokens else {})
    known = tokens.Tokens(owners)
    isolated = Isolated(parts.forks)
    datasets = Datasets(options.upload_folder, isolated=isolated)
    catalogue = Catalogue(
        options.models,
        options.folder / "models",
        options.datasets,
        options.budget,
        uploads=datasets,
        schemes=options.schemes,
        endpoints=frozenset(options.endpoints),
        isolated=isolated,
    )
    denials = Denials(recorder, _METHODS)
    service = JobService(
        store,
        Artifacts(options.artifact_folder),
        catalogue,
        known,
        nudge=runner.nudge,
        limits=options.runner.limits,
        recorder=recorder,
        denials=denials,
        receivers=options.receivers,
    )
    server = grpc.aio.server(
        interceptors=[
            TokenInterceptor(known, _denied(denials, metrics)),
            ObservedInterceptor(metrics, _METHODS),
            ReadableInterceptor(),
        ],
        options=_SETTINGS,
        maximum_concurrent_rpcs=_MOST_CALLS,
    )
    add_JobServiceServicer_to_server(service, server)
    models = ModelService(catalogue, known, serving=options.serving, recorder=recorder, denials=denials)
    add_ModelServiceServicer_to_server(models, server)
    uploads = DatasetService(datasets, store, known, patience=options.patience, recorder=recorder, denials=denials)
    add_DatasetServiceServicer_to_server(uploads, server)
    pool = AuditPool(options.auditing)
    audits = AuditService(
        pool,
        catalogue,
        datasets,
        known,
        endpoints=options.endpoints,
        patience=options.patience,
        recorder=recorder,
        denials=denials,
    )
    add_AuditServiceServicer_to_server(audits, server)
    state = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    if options.reflection:
        from grpc_reflection.v1alpha import reflection

        reflection.enable_server_reflection((*_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = _bind(server, options)
    await server.start()
    for name in ("", *_NAMES):
        await state.set(name, health_pb2.HealthCheckResponse.SERVING)
    threading.Thread(target=catalogue.warm, name="catalogue", daemon=True).start()
    recording = asyncio.create_task(denials.keep_recording())
    warming = asyncio.create_task(pool.warm()) if options.audit_warm else None

    async def drain() -> None:
        await state.enter_graceful_shutdown()
        await asyncio.to_thread(runner.stop)
        service.close()

    metrics.registry.register(_gauges(parts, runner, pool))
    with served(metrics.registry, options.metrics), _recorded(options, address, own_token):
        try:
            yield address, drain
        finally:
            await server.stop(_SERVER_GRACE)
            recording.cancel()
            denials.flush()
            if warming is not None:
                warming.cancel()
            await pool.stop()
            isolated.end_all()  # a look at many images takes long, and the threads below wait for it
            service.release()
            models.release()
            uploads.release()
            audits.release()


def _gauges(parts: _Parts, runner: Runner, pool: AuditPool) -> WorkerGauges:
    options = parts.options
    folders = {"state": options.folder, "artifacts": options.artifact_folder, "datasets": options.upload_folder}
    return WorkerGauges(Looked(parts.store, runner, pool, parts.ledger, options.upload_folder, folders))


def _denied(denials: Denials, metrics: WorkerMetrics) -> Callable[[str], None]:
    def count(method: str) -> None:
        denials.count(method)
        metrics.denied(short(method, _METHODS))

    return count


def _runner(parts: _Parts) -> Runner:
    options = parts.options
    places, environment = slots(options), options.environment
    return Runner(parts.store, parts.executor, places, environment, options=options.runner, metrics=parts.metrics)


def _bind(server: grpc.aio.Server, options: WorkerOptions) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    try:
        port = server.add_insecure_port(f"{host}:{options.port}")
    except RuntimeError as error:
        raise FailedPrecondition(
            f"port {options.port} of {options.host} is in use or cannot be used; choose another with --port",
            field="port",
        ) from error
    return f"{host}:{port}"


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One worker per state folder. The lock is free again however its holder ends."""
    folder = state / "jobs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPrecondition(f"another worker runs with the state folder {state}") from None
        yield


@contextmanager
def _recorded(options: WorkerOptions, address: str, token_file: Path) -> Iterator[None]:
    """The record by which clients on this machine find the worker."""
    record: Worker = {
        "pid": os.getpid(),
        "create_time": psutil.Process().create_time(),
        "grpc": address,
        "token_file": str(token_file),
        "ledger": str(options.ledger_folder or ""),
    }
    state = options.state
    handle, name = tempfile.mkstemp(dir=state / "jobs")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
    Path(name).replace(state / WORKER)
    try:
        yield
    finally:
        (state / WORKER).unlink(missing_ok=True)
