"""What verbs of the worker share: the connection, waiting for a job, and downloading its files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ouzel_client._transport import config
from ouzel_client.errors import OuzelError
from ouzel_client.terminal import print_json, shown

if TYPE_CHECKING:
    from ouzel_client._sync._client import Client
    from ouzel_client._sync._job import Job

notify_option = click.option(
    "--notify", default="", metavar="URL", help="Tell this address of each change of the job's state."
)
cost_option = click.option(
    "--max-cost", type=click.FloatRange(min=1), help="Seconds of running (of GPUs) that the job may cost."
)


@contextmanager
def client() -> Iterator[Client]:
    """A client of the worker, whose errors become one line."""
    from ouzel_client._sync._client import Client

    try:
        with Client(worker=config.find_worker().target) as ouzel:
            yield ouzel
    except BrokenPipeError:
        raise  # the reader of our output left (`| head`): click ends quietly
    except (OuzelError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


def follow(job: Job, *, detach: bool, out: Path | None, as_json: bool, **_: Any) -> None:
    """Wait for a submitted job, and download its files into `out`, if that is given; or print its id."""
    if detach:
        print_json(job_json(job)) if as_json else click.echo(job.id)
        return
    watch(job, show=shown(as_json))
    if job.failure is not None:
        raise click.ClickException(str(job.failure))
    files = download(job, out) if out is not None else []
    if as_json:
        summary = job.result(pictures=False).summary
        print_json({**job_json(job), "summary": dict(summary), "files": files})
    else:
        click.echo("\n".join(files) or f"{job.id}: `ouzel jobs download {job.id} --out FOLDER` fetches what it found")


def watch(job: Job, file: TextIO | None = None, after: int = 0, show: bool = True) -> None:
    """Show its progress until it has ended: a bar if `file` is a terminal, else lines; nothing if `show` is False.

    Args:
        job: The job.
        file: Where to, None for stderr.
        after: Only events with a larger sequence number.
        show: False shows nothing.
    """
    from ouzel_client._display.jobs import presenter

    try:
        with presenter(job.id, show, file or sys.stderr) as tell:
            for event in job.events(after):
                tell(event)
        job.refresh()
    except KeyboardInterrupt:
        click.echo(f"The job goes on; `ouzel jobs watch {job.id}` shows it, `ouzel jobs cancel` ends it.", err=True)
        raise click.exceptions.Exit(130) from None


def download(job: Job, out: Path, names: tuple[str, ...] = ()) -> list[str]:
    """Download all files of a job, or those that are named; their paths."""
    known = [each.name for each in job.artifacts()]
    files = []
    for name in names or known:
        path = out / name
        if name in known and not path.resolve().is_relative_to(out.resolve()):
            raise click.ClickException(f"{name}: leads out of {out}")
        job.download(name, path)
        files.append(str(path))
    return files


def job_json(job: Job) -> dict[str, Any]:
    """A job for programs."""
    failure = job.failure
    progress = job.progress
    return {
        "id": job.id,
        "kind": job.kind,
        "model": job.model,
        "state": job.state,
        "attempt": job.attempt,
        "progress": {"step": progress.step, "steps": progress.steps, "phase": progress.phase},
        "labels": dict(job.labels),
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "seconds": job.duration,
        "error": None if failure is None else str(failure),
        "failure_class": getattr(failure, "failure_class", None),
    }
