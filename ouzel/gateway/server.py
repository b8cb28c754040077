"""The gateway as a process: both ports in one event loop, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from starlette.routing import BaseRoute, Route

from ouzel import timed_http
from ouzel.errors import FailedPrecondition
from ouzel.gateway.access.http_certificates import with_certificates
from ouzel.gateway.door import Door
from ouzel.gateway.engine import Engine
from ouzel.gateway.explain import ExplainRest, PredictionsService
from ouzel.gateway.grpc_calls import Refusing, Service, UnaryHandler
from ouzel.gateway.ledger_log import Log
from ouzel.gateway.ledger_service import LedgerService
from ouzel.gateway.observing.metrics import GatewayMetrics
from ouzel.gateway.observing.refusals import Refusals
from ouzel.gateway.oip.grpc_service import OipService, refusal
from ouzel.gateway.oip.rest import OipRest
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.rest import app
from ouzel.gateway.rest.http_calls import Calls
from ouzel.gateway.worker.grpc_proxy import WorkerProxy
from ouzel.gateway.worker.methods import LEDGER, METHODS
from ouzel.gateway.worker.openapi import described
from ouzel.gateway.worker.relay import Relay
from ouzel.gateway.worker.rest import WorkerRest
from ouzel.telemetry.metrics import served
from ouzel_protos.oip import SERVICE

_log = logging.getLogger(__name__)
_LARGEST_ANSWER = 2**31 - 1
_KEEP_ALIVE = 75  # s: clients reuse connections
_BACKLOG = 1024
_LAST = 1.0  # s for answers that are on their way when all calls have ended


@dataclass(frozen=True)
class Addresses:
    """Where the gateway listens.

    Attributes:
        rest: A URL without a final slash.
        grpc: "host:port".
        metrics: URL of the metrics; "" if they are not served.
    """

    rest: str
    grpc: str
    metrics: str = ""


def run(
    options: GatewayOptions,
    engine: Engine,
    ready: Callable[[Addresses], None] = lambda _: None,
    metrics: GatewayMetrics | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; then it finishes what is under way, and returns. A second one ends that at once.

    Args:
        options: Of the gateway.
        engine: What answers.
        ready: Called with the addresses once it listens.
        metrics: That count; None makes them.

    Raises:
        FailedPrecondition: A port cannot be had.
    """
    asyncio.run(_until_stopped(options, engine, ready, metrics))


async def _until_stopped(
    options: GatewayOptions, engine: Engine, ready: Callable[[Addresses], None], metrics: GatewayMetrics | None
) -> None:
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        if stopping.is_set() and not hurry.is_set():
            _log.warning("told to stop again: calls under way are ended")
            hurry.set()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with serving(options, engine, metrics, hurry) as addresses:
        ready(addresses)
        await stopping.wait()
        _log.info("stopping: calls under way are finished")


@asynccontextmanager
async def serving(
    options: GatewayOptions,
    engine: Engine,
    metrics: GatewayMetrics | None = None,
    hurry: asyncio.Event | None = None,
) -> AsyncIterator[Addresses]:
    """Serves in this event loop as long as the context is open. Leaving it finishes what is under way.

    Args:
        options: Of the gateway.
        engine: What answers. It is started and closed here.
        metrics: That count; None makes them.
        hurry: Set when what is under way is to be finished no longer.

    Raises:
        FailedPrecondition: A port cannot be had.
    """
    metrics = metrics or GatewayMetrics()
    if (tls := options.tls) is not None:
        words = "When the certificate in force ends, in seconds since the epoch."
        metrics.watch("certificate_expiry_timestamp_seconds", words, lambda: tls.expires)
    named: set[str] = set()
    refusals = Refusals(options.ledger, named)
    door = Door(
        engine,
        options.who,
        denied=refusals.count,
        most_rows=options.max_rows_under_way,
        most_seconds=options.timeout,
        metrics=metrics,
    )
    parts = _parts(options, door)
    named |= parts.names
    state = health.aio.HealthServicer()
    server = _grpc_server(options, parts.handlers, state, door)
    beside = _health_server(options, state)
    with (
        _listening(options.host, options.rest_port) as listener,
        served(metrics.registry, options.metrics) as metrics_url,
    ):
        grpc_address = _bind(server, options)
        await engine.start()
        try:
            await server.start()
            await beside.start()
            for name in ("", SERVICE):
                await state.set(name, health_pb2.HealthCheckResponse.SERVING)
            web = _Web(_settings(options, parts.routes, door))
            running = asyncio.create_task(web.serve(sockets=[listener]))
            recording = asyncio.create_task(refusals.keep_recording())
            try:
                yield Addresses(_url(listener, options), grpc_address, metrics_url)
            finally:
                door.under_way.draining = True
                await state.enter_graceful_shutdown()
                await door.under_way.finish(options.grace, hurry or asyncio.Event())
                web.should_exit = True
                await asyncio.gather(server.stop(_LAST), beside.stop(_LAST), running)
                recording.cancel()
                await asyncio.to_thread(refusals.close)
        finally:
            for close in parts.closing:
                await close()
            await engine.close()
            door.reading.close()


@dataclass(frozen=True)
class _Parts:
    """What answers at the two ports, what entries of refusals may name of it, and what is to be closed."""

    handlers: list[grpc.GenericRpcHandler]
    routes: list[BaseRoute]
    names: set[str]
    closing: list[Callable[[], Awaitable[None]]]


def _parts(options: GatewayOptions, door: Door) -> _Parts:
    calls = Calls(door, options.max_body_bytes, options.body_timeout)
    log = Log(options.ledger)
    ledger = LedgerService(calls, log)
    services: list[Service] = [OipService(door, options.max_rows), PredictionsService(door), ledger]
    routes: list[BaseRoute] = [*OipRest(calls, options.max_rows).routes(), *ExplainRest(calls).routes()]
    routes += [*ledger.routes(), described(worker=options.worker is not None)]
    handlers: list[grpc.GenericRpcHandler] = [UnaryHandler(door, services, options.body_timeout)]
    names = {path for each in services for path in each.paths()}
    names |= {f"POST /v1/{method.service}/{method.name}" for method in LEDGER.values()}
    closing: list[Callable[[], Awaitable[None]]] = [log.close]
    if options.worker is not None:
        relay = Relay(options.worker, door.refusals, door.reading)
        rest = WorkerRest(calls, relay)
        handlers.append(WorkerProxy(door, relay, options.body_timeout))
        routes += rest.routes()
        names |= {*METHODS, *(f"POST /v1/{method.service}/{method.name}" for method in METHODS.values())}
        closing += [rest.close, relay.close]
    names |= {f"{verb} {each.path}" for each in routes if isinstance(each, Route) for verb in each.methods or ()}
    return _Parts(handlers, routes, names, closing)


class _Web(uvicorn.Server):
    """uvicorn's server, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _settings(options: GatewayOptions, routes: list[BaseRoute], door: Door) -> uvicorn.Config:
    settings = uvicorn.Config(
        app.make(routes, door.observer),
        http=with_certificates(timed_http.within(options.body_timeout)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=timed_http.LONGEST_HEADERS,
        limit_concurrency=options.max_calls,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=round(_LAST),
    )
    settings.load()
    if options.tls is not None:
        settings.ssl = options.tls.http()
    return settings


def _grpc_server(
    options: GatewayOptions, handlers: list[grpc.GenericRpcHandler], state: health.aio.HealthServicer, door: Door
) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # else a second server takes the same port, and half of the calls
            ("grpc.max_receive_message_length", options.max_body_bytes),
            ("grpc.max_send_message_length", _LARGEST_ANSWER),
            ("grpc.max_metadata_size", 16 * 2**10),
            ("grpc.absolute_max_metadata_size", 32 * 2**10),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.max_connection_age_ms", 3_600_000),
            ("grpc.max_connection_age_grace_ms", 60_000),
        ],
        maximum_concurrent_rpcs=options.max_calls,
    )
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    server.add_generic_rpc_handlers((*handlers, Refusing(door, refusal)))
    return server


def _health_server(options: GatewayOptions, state: health.aio.HealthServicer) -> grpc.aio.Server:
    """For who keeps the gateway up, and has no certificate to show at its ports."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    if options.health is not None:
        server.add_insecure_port(f"unix:{options.health}")
    return server


def _bind(server: grpc.aio.Server, options: GatewayOptions) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"{host}:{options.grpc_port}"
    try:
        if options.tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, options.tls.grpc())
    except RuntimeError as error:
        raise _not_to_be_had(options.host, options.grpc_port, "grpc_port") from error
    return f"{host}:{port}"


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise _not_to_be_had(host, port, "rest_port") from error
    with listener:
        # Accepted sockets inherit it. Else an answer's body waits 40 ms for the caller to acknowledge its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _not_to_be_had(host: str, port: int, field: str) -> FailedPrecondition:
    return FailedPrecondition(f"{field}: {port} of {host} is in use or cannot be used; choose another", field=field)


def _url(listener: socket.socket, options: GatewayOptions) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "http" if options.tls is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
