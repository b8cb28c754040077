"""`ouzel-worker`: the service that runs jobs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from ouzel.cli._common import store as store_option
from ouzel.cli._errors import Command
from ouzel_protos.local import state_dir


def _dataset(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    found = {}
    for value in values:
        name, separator, folder = value.partition("=")
        if not separator or not name or not Path(folder).is_dir():
            raise click.BadParameter(f"{value!r} is not NAME=FOLDER with a folder that exists")
        found[name] = Path(folder).absolute()
    return found


def _option(flag: str, help_: str, **more: Any) -> Any:
    variable = "OUZEL_WORKER_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, help=help_, envvar=variable, show_envvar=True, show_default=True, **more)


@click.command(cls=Command)
@click.option(
    "--state",
    envvar="OUZEL_STATE",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="State folder: address, token, jobs. [default: ~/.local/state/ouzel]",
)
@store_option
@_option("--jobs", "Store of the jobs: postgresql://... for several workers. [default: SQLite in the state folder]")
@_option(
    "--artifacts",
    "Folder of what jobs leave behind, shared by all workers of a store. [default: in the state folder]",
    type=click.Path(file_okay=False, path_type=Path),
)
@_option(
    "--dataset",
    "Folder of photographs that callers may search.",
    multiple=True,
    metavar="NAME=FOLDER",
    callback=_dataset,
)
@_option(
    "--uploads",
    "Folder of the data sets that callers send, shared by all workers of a store. [default: beside the artifacts]",
    type=click.Path(file_okay=False, path_type=Path),
)
@_option(
    "--dataset-scheme",
    "Let callers name data sets by URIs of this scheme (s3, gs, ...), read with the worker's own rights.",
    multiple=True,
)
@_option("--patience", "Seconds that an upload may be silent.", type=click.FloatRange(min=0.1), default=30.0)
@_option("--host", "Address to listen on; all but loopback belongs behind a proxy.", default="127.0.0.1")
@_option("--port", "Port of gRPC; 0 takes a free one.", type=click.IntRange(0, 65535), default=7090)
@_option("--slots", "Jobs at a time. [default: one per GPU, else one]", type=click.IntRange(min=1))
@_option(
    "--tokens",
    "File of lines OWNER TOKEN, for others than the local user.",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@_option(
    "--serving-state",
    "State folder of the TorchServe that tuned models are published in. [default: that of the worker]",
    type=click.Path(file_okay=False, path_type=Path),
)
@_option("--serving-rest", "URL of REST inference of a TorchServe elsewhere, over the same model store.", default="")
@_option("--serving-management", "URL of its REST management.", default="")
@_option(
    "--serving-key-file",
    "Its file of tokens.",
    type=click.Path(dir_okay=False, path_type=Path),
)
@_option("--reflection", "Tell clients the methods of the service.", is_flag=True)
@_option(
    "--lease",
    "Seconds without a heartbeat after which another worker takes a job over.",
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
@_option("--queued", "Jobs that one owner may have waiting.", type=click.IntRange(min=1), default=1000)
@_option("--running", "Jobs of one owner that run at a time.", type=click.IntRange(min=1), default=64)
@_option(
    "--lost",
    "Processes that a job may lose between two checkpoints before it fails.",
    type=click.IntRange(min=0),
    default=4,
)
def worker(
    *,
    state: Path | None,
    store: Path,
    jobs: str | None,
    dataset: dict[str, Path],
    dataset_scheme: tuple[str, ...],
    lease: float,
    watchdog: float,
    queued: int,
    running: int,
    lost: int,
    **chosen: Any,
) -> None:
    """Accept jobs over gRPC and run them, each in a process of its own, until Ctrl-C.

    SIGTERM and Ctrl-C let running jobs write their checkpoints; the next worker goes on with them.
    """
    try:
        from ouzel.worker import server
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed; run `pip install 'ouzel[worker]'`") from error
    from ouzel.worker.options import WorkerOptions
    from ouzel.worker.runner.runner import RunnerOptions
    from ouzel.worker.runner.supervisor import Timing
    from ouzel.worker.store.job import Limits
    from ouzel.worker.store.retry_policy import Retries

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    timing = Timing(beat=min(1.0, lease / 5), watchdog=watchdog)
    options = WorkerOptions(
        state=state or state_dir(),
        store=jobs or "",
        models=store,
        datasets=dataset,
        schemes=frozenset(dataset_scheme),
        retries=Retries(lost=lost),
        runner=RunnerOptions(timing=timing, lease=lease, limits=Limits(queued=queued, running=running)),
        **chosen,
    )
    server.run(options, lambda address: click.echo(f"Jobs are accepted at {address}. Ctrl-C stops the worker."))


if __name__ == "__main__":
    worker(prog_name="ouzel-worker")
