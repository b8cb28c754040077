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
from ouzel.cli._common import StorePlace
from ouzel.cli._door import DOOR, check_door, door_options
from ouzel.cli._errors import Command
from ouzel.cli._status import as_text, as_values
from ouzel.cli.model_loading import loading_shown, unloaded_said
from ouzel.cli.supervisor import stay
from ouzel.decode_places import PLACES
from ouzel.model_names import POOL
from ouzel.precision_names import PRECISIONS
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel.serving.door_options import DoorOptions
from ouzel.serving.options import AUTO
from ouzel.serving.supervision.mend import mend
from ouzel_protos.local import read_gateway, read_serving, read_worker, state_dir
from ouzel_protos.local import token as read_token

NOTHING_RUNS = 3  # exit statuses of `status`; the first is that of init scripts
NOT_WELL = 4

_OPTIONS = {each.name: each.default for each in dataclasses.fields(ServingOptions)}
_PORT = click.IntRange(1, 65535)
_COUNT = click.IntRange(min=1)
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _CountOrAuto(click.ParamType):
    name = "integer or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == AUTO:
            return AUTO
        try:
            return _COUNT.convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither {AUTO} nor a number from 1 on", param, ctx)


def _option(flag: str, help_: str, *names: str, variable: str = "", **settings: Any) -> _Decorator:
    """An option that can be given as an environment variable too: `--rest-port` as OUZEL_REST_PORT."""
    variable = variable or "OUZEL_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *names, help=help_, envvar=variable, show_envvar=True, show_default=True, **settings)


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    # No default here: it depends on the environment, and --help should not show one machine's.
    option = _option(
        "--state",
        "State folder: tokens, addresses, logs of one set of services. [default: ~/.local/state/ouzel on Linux]",
        type=click.Path(file_okay=False, path_type=Path),
        callback=lambda _context, _option, value: (value or state_dir()).expanduser().absolute(),
    )
    return option(command)


@click.command(cls=Command)
@_option(
    "--model",
    "Model to serve; may be repeated. [default: all models of the store]",
    variable="OUZEL_MODELS",
    multiple=True,
)
@_option(
    "--store",
    "Folder with the model archives.",
    variable="OUZEL_MODEL_STORE",
    type=StorePlace(buckets=False),
    default=_OPTIONS["store"],
)
@_option("--rest-port", "Port for REST inference.", type=_PORT, default=Ports.rest)
@_option("--management-port", "Port for REST management.", type=_PORT, default=Ports.management)
@_option("--metrics-port", "Port for the metrics.", type=_PORT, default=Ports.metrics)
@_option("--grpc-port", "Port for gRPC inference.", type=_PORT, default=Ports.grpc)
@_option("--grpc-management-port", "Port for gRPC management.", type=_PORT, default=Ports.grpc_management)
@_option("--worker-port", "Port of the job worker (gRPC).", type=_PORT, default=Ports.worker)
@_option("--gateway-rest-port", "Port of the gateway for REST.", type=_PORT, default=Ports.gateway_rest)
@_option("--gateway-grpc-port", "Port of the gateway for gRPC.", type=_PORT, default=Ports.gateway_grpc)
@_option(
    "--host",
    "IPv4 address that inference listens on. Use another address than loopback only in containers that publish their "
    "ports on loopback.",
    default=_OPTIONS["host"],
)
@_option("--no-worker", "Do not start the job worker.", is_flag=True)
@_option("--no-gateway", "Do not start the gateway.", is_flag=True)
@door_options
@_option(
    "--workers",
    "Processes per model. auto: several per GPU if that answers more requests and memory permits, measured when a "
    "model is loaded for the first time. [default: one per GPU, else one]",
    type=_CountOrAuto(),
)
@_option("--threads", "Threads per process. [default: cores / processes]", type=_COUNT)
@_option("--batch-size", "Maximum number of requests in a batch. [default: 8; on GPUs 64, or 32 if small]", type=_COUNT)
@_option(
    "--max-batch-delay",
    "Maximum time that a request waits for a batch to fill, in milliseconds.",
    "max_batch_delay_ms",
    type=_COUNT,
    default=_OPTIONS["max_batch_delay_ms"],
)
@_option("--queue-size", "Maximum number of waiting requests per model.", type=_COUNT, default=_OPTIONS["queue_size"])
@_option(
    "--max-request-bytes", "Maximum size of a request in bytes.", type=_COUNT, default=_OPTIONS["max_request_bytes"]
)
@_option(
    "--max-response-bytes", "Maximum size of an answer in bytes.", type=_COUNT, default=_OPTIONS["max_response_bytes"]
)
@_option(
    "--max-passes",
    "Maximum number of passes through the network for one request.",
    type=_COUNT,
    default=_OPTIONS["max_passes"],
)
@_option(
    "--memory-mb",
    "Memory in MiB that a process may use at a time for methods with many passes. [default: a share of the machine's]",
    type=_COUNT,
)
@_option(
    "--precision",
    "What all models compute in. tf32 and bf16 are faster on a GPU, and their answers deviate. [default: what their "
    "archives say, else exact]",
    type=click.Choice(PRECISIONS),
)
@_option(
    "--decode",
    "Where JPEGs are decoded: device is the GPU, where that is faster and inputs deviate by less than a grey level; "
    "answers say which images it has decoded. [default: host]",
    type=click.Choice(PLACES),
)
@_option(
    "--loaded-versions",
    "Number of versions per model that stay loaded: the default version and the newest others. `ouzel models load` "
    "loads one more.",
    type=_COUNT,
    default=_OPTIONS["loaded_versions"],
)
@_option(
    "--pool",
    "Serve all models of the store from a pool: few processes, which hold what is asked for in memory. Callers ask the "
    "gateway.",
    is_flag=True,
)
@_option(
    "--pin",
    "Model that gets processes of its own beside the pool; may be repeated.",
    "pins",
    variable="OUZEL_PINS",
    multiple=True,
)
@_option(
    "--pool-memory-mb",
    "Memory in MiB that each process of the pool may hold models in. [default: a quarter of the machine's, or of its "
    "GPU's, for all together]",
    type=_COUNT,
)
@_option(
    "--timeout",
    "Seconds that TorchServe, each model and the worker each have to become ready.",
    type=click.FloatRange(min=0, min_open=True),
    default=_OPTIONS["timeout"],
)
@_option(
    "--hung-after",
    "Seconds without an answer after which a part is restarted; five times as long while it uses the processor.",
    type=click.FloatRange(min=0, min_open=True),
    default=_OPTIONS["hung_after"],
)
@state_option
@_option("--detach", "Return when the services are ready, and leave them running.", is_flag=True)
def up(model: tuple[str, ...], detach: bool, no_worker: bool, no_gateway: bool, **chosen: Any) -> None:
    """Start the services, or the missing ones, and run until Ctrl-C.

    The services listen on 127.0.0.1 only and need a token. `ouzel explain` and the Python client find it automatically.
    The gateway before them speaks the Open Inference Protocol; without --tenants it lets everybody on this machine in.
    A part that dies or hangs is restarted with the same options. Detached services have a supervisor process for this.
    """
    ports = Ports(**{each.name: chosen.pop(f"{each.name}_port") for each in dataclasses.fields(Ports)})
    door = DoorOptions(host=chosen.pop("gateway_host"), **{name: chosen.pop(name) for name in DOOR})
    options = ServingOptions(
        models=model, ports=ports, worker=not no_worker, gateway=not no_gateway, door=door, **chosen
    )
    ready = False
    if options.gateway:
        check_door(door)
    try:
        with serving.stop_on_signals(), loading_shown() as tell:
            if detach:
                _announce(serving.start_detached(options, tell), options.state, "`ouzel down` stops them.")
                return
            with serving.start(options, tell, take_over=True) as services:
                ready = True
                _announce(services, options.state, "Ctrl-C stops them.")
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


def _announce(services: RunningServing, state: Path, ending: str) -> None:
    door = read_gateway(state) if services.gateway else None
    listens = services.gateway if door is None else door.get("listens", services.gateway)
    rows = {
        "gRPC": services.grpc,
        **({"Jobs": services.worker} if services.worker else {}),
        "REST": services.rest,
        **({"Gateway": " and ".join(listens)} if listens else {}),
        "Management": services.management,
        "Metrics": f"{services.metrics}/metrics",
        "Tokens": str(services.key_file),
        "Log": str(services.log),
    }
    if services.kept:
        click.echo(f"Kept what was running, with its options: {', '.join(services.kept)}.")
    names = ["all models of the store from a pool" if name == POOL else name for name in services.models]
    click.echo(f"Serving {', '.join(names)}. {ending}")
    if services.unloaded:
        click.echo(f"  {unloaded_said(services.unloaded)}")
    for name, value in rows.items():
        click.echo(f"  {name:<10}  {value}")


@click.command(cls=Command)
@state_option
def down(state: Path) -> None:
    """Stop the services.

    This also stops processes that were left by a killed `ouzel up`.
    """
    click.echo("Stopped." if serving.stop(state) else "Nothing is running.")


@click.command(cls=Command)
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(state: Path, as_json: bool) -> None:
    """Show the state of each part of the services.

    Each part has 2 s to answer. Exit status: 0 all parts are well, 3 nothing is running, 4 a part is down or does not
    answer.
    """
    services = serving.status(state)
    click.echo(json.dumps(as_values(services), indent=2) if as_json else as_text(services))
    if services is not None and services.troubles:
        names = ", ".join(f"{part.name} ({part.state})" for part in services.troubles)
        click.echo(f"Not well: {names}.", err=True)
    sys.exit(NOTHING_RUNS if services is None else NOT_WELL if services.troubles else 0)


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(["inference", "management", "worker"]), default="inference")
@state_option
def token(kind: Literal["inference", "management", "worker"], state: Path) -> None:
    """Print a token of the running services.

    Use it with curl and with clients that cannot read the state folder. The worker has a token of its own.
    """
    if kind == "worker":
        worker = read_worker(state)
        if worker is None:
            raise click.ClickException("no worker is running; `ouzel up` or `ouzel-worker` starts one")
        click.echo(Path(worker["token_file"]).read_text(encoding="ascii").strip())
        return
    record = read_serving(state)
    if record is None:
        raise click.ClickException("nothing is running; `ouzel up` starts the services")
    click.echo(read_token(Path(record["key_file"]), kind))
