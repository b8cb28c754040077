"""`ouzel-worker`: the service that runs jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.cli._common import log_format as log_format_option
from ouzel.cli._common import metrics_of, metrics_options
from ouzel.cli._common import state as state_option
from ouzel.cli._common import store_place as store_option
from ouzel.cli._errors import Command
from ouzel.telemetry import logs, tracing
from ouzel_protos.local import state_dir

if TYPE_CHECKING:
    from ouzel.worker.processes.ray_options import RayOptions


def _dataset(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    folders = {}
    for value in values:
        name, separator, folder = value.partition("=")
        if not separator or not name or not Path(folder).is_dir():
            raise click.BadParameter(f"{value!r} is not NAME=FOLDER with a folder that exists")
        folders[name] = Path(folder).absolute()
    return folders


def _option(flag: str, help_: str, **more: Any) -> Any:
    variable = "OUZEL_WORKER_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, help=help_, envvar=variable, show_envvar=True, show_default=True, **more)


@click.command(cls=Command)
@state_option("State folder: address, token, jobs.")
@store_option
@_option("--jobs", "Database of the jobs: postgresql://... for several workers. [default: SQLite in the state folder]")
@_option(
    "--artifacts",
    "Folder for the files that jobs write, or s3://BUCKET/PREFIX; shared by all workers of a store. [default: in the "
    "state folder]",
)
@_option(
    "--artifact-links",
    "Seconds for which links to artifacts in a bucket are valid, which clients may ask for; 0 gives none.",
    type=click.FloatRange(0, 604_800),
    default=600.0,
)
@_option(
    "--dataset",
    "Folder of photographs that clients may search.",
    multiple=True,
    metavar="NAME=FOLDER",
    callback=_dataset,
)
@_option(
    "--uploads",
    "Folder for uploaded data sets, or s3://BUCKET/PREFIX; shared by all workers of a store. [default: next to the "
    "artifacts]",
)
@_option(
    "--dataset-scheme",
    "Allow data sets by URIs of this scheme (s3, gs, ...). The worker reads them with its own rights.",
    multiple=True,
)
@_option(
    "--patience", "Seconds without data after which an upload is ended.", type=click.FloatRange(min=0.1), default=30.0
)
@_option(
    "--host", "Address to listen on. Put a proxy in front of any address other than loopback.", default="127.0.0.1"
)
@_option("--port", "Port for gRPC; 0 selects a free port.", type=click.IntRange(0, 65535), default=7090)
@_option("--slots", "Jobs that run at the same time. [default: one per GPU, else one]", type=click.IntRange(min=1))
@_option(
    "--tokens",
    "File with a line OWNER TOKEN for each user besides the local one.",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@_option(
    "--serving-state",
    "State folder of the TorchServe that serves the tuned models. [default: the one of the worker]",
    type=click.Path(file_okay=False, path_type=Path),
)
@_option("--serving-rest", "REST inference URL of a TorchServe elsewhere with the same model store.", default="")
@_option("--serving-management", "REST management URL of that TorchServe.", default="")
@_option(
    "--serving-key-file",
    "Token file of that TorchServe.",
    type=click.Path(dir_okay=False, path_type=Path),
)
@_option(
    "--serving-quorum",
    "Serving agents that must serve a version before it counts as served and may become the default; 0 without agents.",
    type=click.IntRange(min=0),
    default=0,
)
@_option(
    "--audit-endpoint",
    "A model of another service that clients may have audited: one that another Ouzel serves.",
    multiple=True,
    metavar="NAME=URL",
)
@_option(
    "--audit-endpoints",
    "File that describes services whose predictions clients may have audited.",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@_option("--audit-warm", "Start the process for audits now, instead of with the first audit.", is_flag=True)
@_option("--audit-models", "Models that the process for audits keeps in memory.", type=click.IntRange(min=1), default=4)
@click.option(
    "--ledger",
    envvar="OUZEL_LEDGER",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the log of what this worker does. [default: in the state folder]",
)
@_option(
    "--ledger-database", "Database of the log. [default: that of the jobs if it is PostgreSQL, else SQLite]", default=""
)
@_option(
    "--ledger-tiles",
    "Where the log is published: a folder, or s3://BUCKET/PREFIX. [default: in its folder]",
    default="",
)
@_option("--no-ledger", "Record nothing.", is_flag=True)
@_option(
    "--no-fork",
    "Keep no process that has imported what jobs need: saves 450 MiB, and each job begins seconds later.",
    is_flag=True,
)
@_option(
    "--webhooks",
    "File of the addresses that callers may have told of their jobs.",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@_option(
    "--quotas",
    "File of what owners may use: seconds per day, jobs at a time, bytes.",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@_option(
    "--executor",
    "Where jobs run: on this machine, or on the nodes of a Ray cluster.",
    type=click.Choice(["local", "ray"]),
    default="local",
)
@_option("--ray-address", "Job service of the Ray cluster. [default: http://127.0.0.1:8265]", default="")
@_option(
    "--ray-resources",
    "What Ray reserves for a job of a kind, or of '*', all others. [default: *:cpus=1]",
    multiple=True,
    metavar="KIND:gpus=1,cpus=4,memory=16GiB",
)
@_option("--ray-python", "Interpreter on the nodes that has Ouzel. [default: python]", default="")
@_option("--reflection", "Enable gRPC server reflection.", is_flag=True)
@_option(
    "--lease",
    "Seconds without a heartbeat after which another worker takes over a job.",
    type=click.FloatRange(min=1),
    default=15.0,
)
@_option(
    "--watchdog",
    "Seconds without progress after which a job's process is ended.",
    type=click.FloatRange(min=1),
    default=600.0,
)
@_option("--checkpoint", "Seconds between two checkpoints of a job.", type=click.FloatRange(min=0), default=10.0)
@_option("--queued", "Maximum number of waiting jobs per owner.", type=click.IntRange(min=1), default=1000)
@_option("--running", "Maximum number of running jobs per owner.", type=click.IntRange(min=1), default=64)
@_option(
    "--lost",
    "Times that a job may lose its process between two checkpoints before it fails.",
    type=click.IntRange(min=0),
    default=4,
)
@metrics_options(_option)
@log_format_option
def worker(
    *,
    state: Path | None,
    store: str | Path,
    jobs: str | None,
    dataset: dict[str, Path],
    dataset_scheme: tuple[str, ...],
    audit_endpoint: tuple[str, ...],
    audit_endpoints: Path | None,
    lease: float,
    watchdog: float,
    queued: int,
    running: int,
    lost: int,
    metrics_port: int | None,
    metrics_host: str,
    metrics_token_file: Path | None,
    log_format: str,
    executor: str,
    ray_address: str,
    ray_resources: tuple[str, ...],
    ray_python: str,
    **chosen: Any,
) -> None:
    """Accept jobs over gRPC and run each in its own process, until Ctrl-C.

    On SIGTERM and Ctrl-C, running jobs write their checkpoints. The next worker continues them.
    """
    try:
        from ouzel.worker import server
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed; run `pip install 'ouzel[worker]'`") from error
    from ouzel.worker.options import WorkerOptions
    from ouzel.worker.runner.runner import RunnerOptions
    from ouzel.worker.runner.supervisor import Timing
    from ouzel.worker.store.limits import Limits
    from ouzel.worker.store.retry_policy import Retries

    logs.configure(log_format=log_format)
    tracing.start("ouzel-worker")
    timing = Timing(beat=min(1.0, lease / 5), watchdog=watchdog, unknown=3 * lease)
    options = WorkerOptions(
        state=state or state_dir(),
        store=jobs or "",
        models=store,
        datasets=dataset,
        schemes=frozenset(dataset_scheme),
        audit_endpoint_file=audit_endpoints,
        audit_endpoint_flags=audit_endpoint,
        retries=Retries(lost=lost),
        metrics=metrics_of(metrics_port, metrics_host, metrics_token_file),
        ray=_ray(executor, ray_address, ray_resources, ray_python, lease),
        runner=RunnerOptions(timing=timing, lease=lease, limits=Limits(queued=queued, running=running)),
        **chosen,
    )
    try:
        server.run(options, _announce)
    finally:
        tracing.stop()


def _ray(executor: str, address: str, resources: tuple[str, ...], python: str, lease: float) -> RayOptions | None:
    from ouzel.worker import kinds
    from ouzel.worker.processes import ray_options

    given = {"--ray-address": address, "--ray-resources": resources, "--ray-python": python}
    if executor != "ray":
        if named := [name for name, value in given.items() if value]:
            raise click.UsageError(f"{named[0]} needs --executor ray")
        return None
    texts = {"address": address, "python": python}
    return ray_options.RayOptions(
        resources=ray_options.resources(resources, kinds.NAMES),
        patience=3 * lease,
        **{name: text for name, text in texts.items() if text},
    )


def _announce(address: str) -> None:
    click.echo(logs.event(f"Jobs are accepted at {address}. Ctrl-C stops the worker.", name="ouzel.worker"))


if __name__ == "__main__":
    worker(prog_name="ouzel-worker")
