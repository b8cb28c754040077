"""`ouzel-gateway`: the front door."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel import secret_files
from ouzel.cli._common import log_format as log_format_option
from ouzel.cli._common import metrics_of, metrics_options
from ouzel.cli._common import state as state_option
from ouzel.cli._common import store as store_option
from ouzel.cli._errors import Command
from ouzel.ledger_folder import folder_of, known
from ouzel.telemetry import logs, tracing
from ouzel_protos.local import state_dir

if TYPE_CHECKING:
    from ouzel.gateway.access.configured import ConfiguredAccess
    from ouzel.gateway.access.tls import Tls
    from ouzel.gateway.engine import Engine
    from ouzel.gateway.engines.torchserve import Found
    from ouzel.gateway.server import Addresses
    from ouzel.gateway.worker.place import WorkerOptions


def _option(flag: str, help_: str, **more: Any) -> Any:
    variable = "OUZEL_GATEWAY_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, help=help_, envvar=variable, show_envvar=True, show_default=True, **more)


def _file(flag: str, help_: str) -> Any:
    return _option(flag, help_, type=click.Path(dir_okay=False, path_type=Path))


@click.command(cls=Command)
@state_option("State folder of the services behind the door.")
@_option(
    "--engine",
    "What answers predictions: the TorchServe that runs, or this process itself.",
    type=click.Choice(["torchserve", "in-process"]),
    default="torchserve",
)
@store_option
@_option("--host", "Address to listen on. Another one than loopback needs access control.", default="127.0.0.1")
@_option("--rest-port", "Port for REST; 0 selects a free one.", type=click.IntRange(0, 65535), default=8000)
@_option("--grpc-port", "Port for gRPC; 0 selects a free one.", type=click.IntRange(0, 65535), default=8001)
@_option("--device", "Where the engine in this process computes: cpu, cuda, cuda:1.", default="cpu")
@_option("--batch-size", "Rows that it computes together at most.", type=click.IntRange(1, 1024), default=8)
@_option(
    "--memory-mb",
    "Memory in MiB that its models may take. [default: a quarter of the machine's]",
    type=click.IntRange(1),
)
@_option("--torchserve-grpc", "host:port of a TorchServe elsewhere, with the same model store.", default="")
@_option("--torchserve-management", "URL of its management API.", default="")
@_file("--torchserve-key-file", "Its file of tokens.")
@_option("--worker", "host:port of a worker elsewhere. [default: the one with the state folder]", default="")
@_option(
    "--worker-state",
    "State folder of a worker of this machine that has one of its own. [default: the one of the door]",
    type=click.Path(file_okay=False, path_type=Path),
)
@_file("--worker-tokens", "The worker's file of tokens: a line OWNER TOKEN for each tenant.")
@_file("--tenants", "tenants.toml: who may call, and how much. [default: everybody on this machine, everything]")
@_option("--keys", "Database of API keys: a SQLite file, or postgresql://... [default: keys.db, in the state folder]")
@_file("--tls-certificate", "The server's certificate in PEM, with those between it and its root.")
@_file("--tls-key", "Its private key.")
@_file("--tls-client-ca", "Who may sign certificates of clients; then every client must show one.")
@_option("--no-worker", "Offer no jobs, data sets and audits.", is_flag=True)
@_option("--timeout", "Seconds that a call may take.", type=click.FloatRange(min=0.001), default=120.0)
@_option("--body-timeout", "Seconds in which a request must have come.", type=click.FloatRange(min=0.001), default=30.0)
@_option("--grace", "Seconds for calls under way when told to stop.", type=click.FloatRange(min=0), default=30.0)
@_option("--max-body-bytes", "Of one request.", type=click.IntRange(min=1024), default=64 * 2**20)
@_option("--max-rows", "Images of one request.", type=click.IntRange(min=1), default=64)
@click.option("--recorded", is_flag=True, hidden=True)  # for `ouzel up`
@click.option("--pool", is_flag=True, hidden=True)  # likewise: TorchServe alone does not answer for all models
@_option("--max-rows-under-way", "Images of one model at a time.", type=click.IntRange(min=1), default=512)
@metrics_options(_option)
@log_format_option
@_option("--no-access-log", "Write no line for each call.", is_flag=True)
def gateway(
    *,
    state: Path | None,
    engine: str,
    store: Path,
    device: str,
    batch_size: int,
    memory_mb: int | None,
    torchserve_grpc: str,
    torchserve_management: str,
    torchserve_key_file: Path | None,
    worker: str,
    worker_state: Path | None,
    worker_tokens: Path | None,
    tenants: Path | None,
    keys: str | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    no_worker: bool,
    recorded: bool,
    pool: bool,
    metrics_port: int | None,
    metrics_host: str,
    metrics_token_file: Path | None,
    log_format: str,
    no_access_log: bool,
    **chosen: Any,
) -> None:
    """Serve predictions, explanations, jobs and audits through one port for gRPC and one for REST, until Ctrl-C.

    It speaks the Open Inference Protocol and Ouzel's own requests. On SIGTERM and Ctrl-C, calls under way are finished.
    """
    try:
        from ouzel.gateway import server
        from ouzel.gateway.observing.metrics import GatewayMetrics
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed; run `pip install 'ouzel[gateway]'`") from error
    from ouzel.gateway.options import GatewayOptions
    from ouzel.gateway.record import Record

    folder = state or state_dir()
    elsewhere = (torchserve_grpc, torchserve_management, torchserve_key_file)
    if any(elsewhere) and not all(elsewhere):
        raise click.UsageError("--torchserve-grpc, --torchserve-management and --torchserve-key-file go together")
    for path, field in ((torchserve_key_file, "torchserve_key_file"), (worker_tokens, "worker_tokens")):
        if path is not None:
            secret_files.check(path, field)
    if worker and worker_state is not None:
        raise click.UsageError("--worker and --worker-state exclude each other: the folder says where its worker is")
    tls = _tls(tls_certificate, tls_key, tls_client_ca)
    if keys is not None and tenants is None:
        raise click.UsageError("--keys needs --tenants: each key belongs to a tenant")
    metrics = GatewayMetrics()
    if engine == "in-process":
        from ouzel.gateway.engines.in_process import InProcessEngine

        answering: Engine = InProcessEngine(
            store, device=device, batch_size=batch_size, memory_bytes=memory_mb and memory_mb * 2**20
        )
    else:
        answering = _torchserve(folder, store, *elsewhere, retried=metrics.retried)
    log = logs.configure_aside(log_format=log_format)
    if no_access_log:
        logging.getLogger("ouzel.gateway.calls").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # else each stranger writes a line
    record = Record(folder) if recorded else None

    def ready(at: Addresses) -> None:
        if record is not None:
            record.write(at.rest, at.grpc, tls=tls is not None, pool=pool)
        _announce(at)

    tracing.start("ouzel-gateway")
    with _access(tenants, keys, folder, tls) as access, closing(record) if record else nullcontext():
        options = GatewayOptions(
            worker=None if no_worker else _worker(worker_state or folder, worker, worker_tokens),
            access=access,
            tls=tls,
            ledger=lambda: _ledger(folder),
            health=None if record is None else record.health,
            metrics=metrics_of(metrics_port, metrics_host, metrics_token_file),
            **chosen,
        )
        server.run(options, answering, ready, metrics)
    sys.stdout.flush()
    tracing.stop()
    log.close()
    os._exit(0)  # threads that still compute for callers who were cut off would hold the process up


def _announce(at: Addresses) -> None:
    words = f"REST is served at {at.rest}, gRPC at {at.grpc}. Ctrl-C stops the gateway."
    click.echo(logs.event(words, name="ouzel.gateway"))


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    from ouzel.gateway.access.tls import Tls, TlsFiles

    if certificate is None or key is None:
        if certificate or key or client_ca:
            raise click.UsageError("--tls-certificate and --tls-key go together, --tls-client-ca with both")
        return None
    return Tls(TlsFiles(certificate, key, client_ca))


@contextmanager
def _access(tenants: Path | None, keys: str | None, state: Path, tls: Tls | None) -> Iterator[ConfiguredAccess | None]:
    """Who may call; None is everybody on this machine. Files are read again when they change."""
    from ouzel.gateway.access.configured import AccessOptions, opened
    from ouzel.gateway.access.key_schema import FILE
    from ouzel.gateway.access.polling import Polling

    also = [] if tls is None else [tls.refresh]
    if tenants is not None:
        with opened(AccessOptions(tenants, keys or state / FILE), also) as access:
            yield access
        return
    with closing(Polling(also)) as polling:
        polling.start()
        yield None


def _ledger(state: Path) -> Path | None:
    folder = folder_of(state)
    return folder if known(folder) else None


def _worker(state: Path, target: str, tokens: Path | None) -> WorkerOptions:
    from ouzel.gateway.worker.place import WorkerOptions, WorkerPlace, local

    if not target:
        return WorkerOptions(local(state), tokens)
    place = WorkerPlace(target)
    return WorkerOptions(lambda: place, tokens)


def _torchserve(
    state: Path, store: Path, grpc: str, management: str, key_file: Path | None, *, retried: Callable[[], None]
) -> Engine:
    from ouzel.gateway.engines.torchserve import Found, TorchServeEngine, local
    from ouzel.gateway.engines.torchserve_calls import Place
    from ouzel.torchserve.server import Server

    if key_file is None:
        return TorchServeEngine(local(state), retried=retried)
    found = Found(Place(grpc, key_file), Server("", management.rstrip("/"), key_file), store)
    find: Callable[[], Found | None] = lambda: found  # noqa: E731
    return TorchServeEngine(find, retried=retried)


if __name__ == "__main__":
    gateway(prog_name="ouzel-gateway")
