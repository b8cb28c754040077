"""The worker: the service, the runner and the store in one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ouzel.forking.client import ForkServer
from ouzel.ledger import Ledger
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Recorder
from ouzel.model_files import ModelFiles
from ouzel.registry.bucket import BucketRegistry
from ouzel.registry.opening import open_registry
from ouzel.telemetry.metrics import served
from ouzel.torchserve.quorum import Agents
from ouzel.worker import kinds
from ouzel.worker.api import port, tokens
from ouzel.worker.api.audit_service import AuditService
from ouzel.worker.api.auth import TokenInterceptor
from ouzel.worker.api.dataset_service import DatasetService
from ouzel.worker.api.decoding import ReadableInterceptor
from ouzel.worker.api.job_service import JobService
from ouzel.worker.api.model_service import ModelService
from ouzel.worker.api.observed import ObservedInterceptor, short
from ouzel.worker.artifacts.protocol import Artifacts
from ouzel.worker.auditing.pool import AuditPool
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.gauges import Looked, WorkerGauges
from ouzel.worker.isolated import Isolated
from ouzel.worker.metrics import WorkerMetrics
from ouzel.worker.options import WorkerOptions, slots
from ouzel.worker.processes.executor import Executor
from ouzel.worker.processes.open import open_executor
from ouzel.worker.quotas.accounts import Accounts
from ouzel.worker.quotas.quotes import Quotes
from ouzel.worker.quotas.storage import Storage
from ouzel.worker.runner.runner import Runner
from ouzel.worker.state_folder import alone, recorded
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel.worker.webhooks.deliverer import Deliverer
from ouzel.worker.webhooks.sending import Sender
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


def run(options: WorkerOptions, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        options: Of the worker.
        ready: Called with the address once it listens.

    Raises:
        OuzelError: It cannot start.
    """
    with alone(options.state), ExitStack() as opened:
        metrics = WorkerMetrics()
        store = open_store(options.store_url, retries=options.retries, failed=metrics.database_failed)
        opened.callback(store.close)
        ledger = options.open_ledger()
        if ledger is not None:
            opened.callback(ledger.close)
        artifacts = options.environment.open_artifacts(check=True)
        forks = None
        options.receivers, options.limits  # noqa: B018 - a file that cannot be read ends the start
        if not options.no_fork:
            forks = ForkServer(kinds.libraries())
            opened.callback(forks.close)
        isolated = Isolated(forks)
        datasets = Datasets(options.upload_place, isolated=isolated, cache=options.environment.upload_cache)
        datasets.check()
        agents = _agents(options)
        logs, environment = options.folder / "logs", options.environment
        executor = open_executor(logs, forks=forks, ray=options.ray, store=store, environment=environment)
        opened.callback(executor.close)
        parts = _Parts(options, store, ledger, artifacts, isolated, datasets, forks, metrics, executor, agents)
        asyncio.run(_serve(parts, ready))


@dataclass(frozen=True)
class _Parts:
    """What is opened before the services begin."""

    options: WorkerOptions
    store: Store
    ledger: Ledger | None
    artifacts: Artifacts
    isolated: Isolated
    datasets: Datasets
    forks: ForkServer | None
    metrics: WorkerMetrics
    executor: Executor
    agents: Agents | None


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
    known = tokens.Tokens(
        {tokens.own(own_token): tokens.LOCAL} | (tokens.read(options.tokens) if options.tokens else {})
    )
    isolated, datasets = parts.isolated, parts.datasets
    files = ModelFiles(*options.environment.model_store)
    catalogue = Catalogue(
        files.folder,
        options.folder / "models",
        options.datasets,
        options.budget,
        uploads=datasets,
        schemes=options.schemes,
        endpoints=frozenset(options.endpoints),
        isolated=isolated,
        files=files,
    )
    denials = Denials(recorder, _METHODS)
    storage = Storage(store, datasets.used, options.limits)
    service = JobService(
        store,
        parts.artifacts,
        catalogue,
        known,
        nudge=runner.nudge,
        accounts=_accounts(parts, storage),
        recorder=recorder,
        denials=denials,
        receivers=options.receivers,
        link_seconds=options.artifact_links,
    )
    server = grpc.aio.server(
        interceptors=[
            TokenInterceptor(known, _denied(denials, metrics)),
            ObservedInterceptor(metrics, _METHODS),
            ReadableInterceptor(),
        ],
        options=port.SETTINGS,
        maximum_concurrent_rpcs=port.MOST_CALLS,
    )
    add_JobServiceServicer_to_server(service, server)
    models = ModelService(
        catalogue,
        known,
        serving=options.serving,
        agents=parts.agents,
        recorder=recorder,
        denials=denials,
    )
    add_ModelServiceServicer_to_server(models, server)
    uploads = DatasetService(
        datasets, store, known, patience=options.patience, storage=storage, recorder=recorder, denials=denials
    )
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
    address = port.bind(server, options.host, options.port)
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
    with served(metrics.registry, options.metrics), recorded(options, address, own_token):
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


def _agents(options: WorkerOptions) -> Agents | None:
    """Checks a model store in a bucket, and gives what agents tell of it; None without agents."""
    registry = open_registry(options.models)
    if isinstance(registry, BucketRegistry):
        registry.check()
    return Agents(registry, options.serving_quorum) if options.serving_quorum else None


def _accounts(parts: _Parts, storage: Storage) -> Accounts:
    places = slots(parts.options)
    quotes = Quotes(parts.store, max(each.gpus for each in places), places[0].by_kind)
    return Accounts(parts.store, storage, parts.options.limits, quotes, len(places))


def _gauges(parts: _Parts, runner: Runner, pool: AuditPool) -> WorkerGauges:
    options = parts.options
    places = {"state": options.folder, "artifacts": options.artifact_place, "datasets": options.upload_place}
    folders = {name: place for name, place in places.items() if isinstance(place, Path)}
    agents = None if parts.agents is None else parts.agents.reports
    return WorkerGauges(Looked(parts.store, runner, pool, parts.ledger, parts.datasets.total, folders, agents))


def _denied(denials: Denials, metrics: WorkerMetrics) -> Callable[[str], None]:
    def count(method: str) -> None:
        denials.count(method)
        metrics.denied(short(method, _METHODS))

    return count


def _runner(parts: _Parts) -> Runner:
    options = parts.options
    places, environment = slots(options), options.environment
    chosen = replace(options.runner, limits=options.limits)
    return Runner(parts.store, parts.executor, places, environment, options=chosen, metrics=parts.metrics)
