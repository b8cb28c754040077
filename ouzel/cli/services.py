"""`ouzel up`, `down`, `status` and `token`: the services on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from ouzel import serving
from ouzel.cli._errors import Command
from ouzel.cli._parts import as_text, as_values
from ouzel.cli.model_loading import loading_shown, unloaded_said
from ouzel.cli.supervisor import stay
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel.serving.supervision.mend import mend
from ouzel_protos.local import read_serving, read_worker, state_dir
from ouzel_protos.local import token as read_token

NOTHING_RUNS = 3  # exit statuses of `status`; the first is that of init scripts
NOT_WELL = 4

_OPTIONS = {each.name: each.default for each in dataclasses.fields(ServingOptions)}
_PORT = click.IntRange(1, 65535)
_COUNT = click.IntRange(min=1)
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _option(flag: str, help_: str, *names: str, variable: str = "", **settings: Any) -> _Decorator:
    """An option that can be given as an environment variable too: `--rest-port` as OUZEL_REST_PORT."""
    variable = variable or "OUZEL_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *names, help=help_, envvar=variable, show_envvar=True, show_default=True, **settings)


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    # No default here: it depends on the environment, and --help should not show one machine's.
    option = _option(
        "--state",
        "State folder: tokens, addresses, log. One set of services per folder. [default: ~/.local/state/ouzel]",
        type=click.Path(file_okay=False, path_type=Path),
        callback=lambda _context, _option, value: (value or state_dir()).expanduser().absolute(),
    )
    return option(command)


@click.command(cls=Command)
@_option(
    "--model", "Model to serve; may be repeated. [default: all of the store]", variable="OUZEL_MODELS", multiple=True
)
@_option(
    "--store",
    "Folder of the model archives.",
    variable="OUZEL_MODEL_STORE",
    type=click.Path(path_type=Path),
    default=_OPTIONS["store"],
)
@_option("--rest-port", "Port of REST inference.", type=_PORT, default=Ports.rest)
@_option("--management-port", "Port of REST management.", type=_PORT, default=Ports.management)
@_option("--metrics-port", "Port of the metrics.", type=_PORT, default=Ports.metrics)
@_option("--grpc-port", "Port of gRPC inference.", type=_PORT, default=Ports.grpc)
@_option("--grpc-management-port", "Port of gRPC management.", type=_PORT, default=Ports.grpc_management)
@_option("--worker-port", "Port of gRPC for jobs.", type=_PORT, default=Ports.worker)
@_option(
    "--host",
    "IPv4 address on which inference listens. Another than loopback is for containers, published on loopback.",
    default=_OPTIONS["host"],
)
@_option("--no-worker", "Start no worker that runs jobs.", is_flag=True)
@_option("--workers", "Processes per model. [default: one per GPU, else one]", type=_COUNT)
@_option("--threads", "Threads per worker. [default: cores / workers]", type=_COUNT)
@_option("--batch-size", "Most requests computed together.", type=_COUNT, default=_OPTIONS["batch_size"])
@_option(
    "--max-batch-delay",
    "Longest wait of a request for others, in milliseconds.",
    "max_batch_delay_ms",
    type=_COUNT,
    default=_OPTIONS["max_batch_delay_ms"],
)
@_option("--queue-size", "Requests per model that may wait.", type=_COUNT, default=_OPTIONS["queue_size"])
@_option("--max-request-bytes", "Largest request.", type=_COUNT, default=_OPTIONS["max_request_bytes"])
@_option("--max-response-bytes", "Largest answer.", type=_COUNT, default=_OPTIONS["max_response_bytes"])
@_option(
    "--max-passes", "Most passes through the network for one request.", type=_COUNT, default=_OPTIONS["max_passes"]
)
@_option(
    "--memory-mb",
    "MiB that a worker may take at a time for methods of many passes. [default: a share of the machine's]",
    type=_COUNT,
)
@_option(
    "--loaded-versions",
    "Versions of each model that are kept loaded: the default one and the newest others. `ouzel models load` adds one.",
    type=_COUNT,
    default=_OPTIONS["loaded_versions"],
)
@_option(
    "--timeout",
    "Seconds in which TorchServe, each model and the worker must be ready.",
    type=click.FloatRange(min=0, min_open=True),
    default=_OPTIONS["timeout"],
)
@_option(
    "--hung-after",
    "Seconds without an answer after which a part is started again; five times that while it computes.",
    type=click.FloatRange(min=0, min_open=True),
    default=_OPTIONS["hung_after"],
)
@state_option
@_option("--detach", "Return when ready, and leave the services running.", is_flag=True)
def up(model: tuple[str, ...], detach: bool, no_worker: bool, **chosen: Any) -> None:
    """Start the services, or those that are missing, and stay until Ctrl-C.

    They listen on 127.0.0.1 only and ask for a token, which `ouzel explain` and the Python client find by themselves.
    What dies or hangs is started again with the same options; of detached services, by a process in the background.
    """
    ports = Ports(**{each.name: chosen.pop(f"{each.name}_port") for each in dataclasses.fields(Ports)})
    options = ServingOptions(models=model, ports=ports, worker=not no_worker, **chosen)
    ready = False
    try:
        with serving.stop_on_signals(), loading_shown() as tell:
            if detach:
                _announce(serving.start_detached(options, tell), "`ouzel down` stops them.")
                return
            with serving.start(options, tell, take_over=True) as services:
                ready = True
                _announce(services, "Ctrl-C stops them.")
                stay(options.state)
    except serving.AlreadyRunning:
        if not (mended := mend(options.state, options.timeout)):
            raise
        for part in mended:
            click.echo(f"Started again: {part.name}, process {part.pids[0]}, {part.address}")
        click.echo("The rest was running already; the options of that run hold.")
    except serving.Stopped as signal:
        click.echo("Stopped." if ready else "Stopped before the services were ready.", err=True)
        sys.exit(0 if ready else 128 + signal.signum)


def _announce(services: RunningServing, ending: str) -> None:
    rows = {
        "gRPC": services.grpc,
        **({"Jobs": services.worker} if services.worker else {}),
        "REST": services.rest,
        "Management": services.management,
        "Metrics": f"{services.metrics}/metrics",
        "Tokens": str(services.key_file),
        "Log": str(services.log),
    }
    if services.kept:
        click.echo(f"Kept what was running, with its options: {', '.join(services.kept)}.")
    click.echo(f"Serving {', '.join(services.models)}. {ending}")
    if services.unloaded:
        click.echo(f"  {unloaded_said(services.unloaded)}")
    for name, value in rows.items():
        click.echo(f"  {name:<10}  {value}")


@click.command(cls=Command)
@state_option
def down(state: Path) -> None:
    """Stop the services, and whatever a killed `ouzel up` has left."""
    click.echo("Stopped." if serving.stop(state) else "Nothing is running.")


@click.command(cls=Command)
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(state: Path, as_json: bool) -> None:
    """Show how each part is: it is asked, with a time-out of 2 s.

    Exit status: 0 all are well, 3 nothing runs, 4 a part is down or does not answer.
    """
    found = serving.status(state)
    click.echo(json.dumps(as_values(found), indent=2) if as_json else as_text(found))
    if found is not None and found.troubles:
        names = ", ".join(f"{part.name} ({part.state})" for part in found.troubles)
        click.echo(f"Not well: {names}.", err=True)
    sys.exit(NOTHING_RUNS if found is None else NOT_WELL if found.troubles else 0)


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(["inference", "management", "worker"]), default="inference")
@state_option
def token(kind: Literal["inference", "management", "worker"], state: Path) -> None:
    """Print a token of the running services, for curl and other clients."""
    if kind == "worker":
        worker = read_worker(state)
        if worker is None:
            raise click.ClickException("no worker is running; `ouzel up` or `ouzel-worker` starts one")
        click.echo(Path(worker["token_file"]).read_text(encoding="ascii").strip())
        return
    found = read_serving(state)
    if found is None:
        raise click.ClickException("nothing is running; `ouzel up` starts the services")
    click.echo(read_token(Path(found["key_file"]), kind))
