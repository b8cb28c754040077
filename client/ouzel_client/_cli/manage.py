"""`ouzel jobs`: list, watch and control the jobs of the worker."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel_client._cli.follow import client, download, job_json
from ouzel_client._cli.follow import watch as show_how_it_goes
from ouzel_client._display.jobs import how_far, steps_of
from ouzel_client._types.job_events import JobEvent, PreviewEvent
from ouzel_client.arguments import label
from ouzel_client.terminal import (
    Column,
    age,
    confirm,
    duration,
    file_size,
    json_option,
    local_time,
    print_facts,
    print_json,
    print_table,
    yes_option,
)

if TYPE_CHECKING:
    from ouzel_client._sync._job import Job
    from ouzel_client._types.usage import DayUsage

_id = click.argument("job")
_KINDS = {"search": "search_activations"}  # what its verb is called
_USED = ("seconds", "gpu_seconds", "succeeded", "failed", "cancelled")
_COLUMNS = (
    Column("job"),
    Column("kind"),
    Column("model", shrinks=2),
    Column("state"),
    Column("done", right=True),
    Column("age", right=True),
    Column("took", right=True),
    Column("error", shrinks=1, cut=True),
)


@click.group()
def jobs() -> None:
    """List, show, watch and control the jobs of the worker."""


@jobs.command("list")
@click.option("--state", "states", multiple=True, help="Only those in this state; may be repeated.")
@click.option("--kind", default="", help="maximize, search (search_activations), finetune or audit.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@json_option
def list_jobs(states: tuple[str, ...], kind: str, labels: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List the jobs, newest first."""
    with client() as ouzel:
        wanted: Any = tuple(state.upper() for state in states)
        listed = ouzel.jobs.list(states=wanted, kind=_KINDS.get(kind, kind), labels=dict(map(label, labels)))
        newest = [job for job, _ in zip(listed, range(limit + 1), strict=False)]
    if as_json:
        print_json([job_json(job) for job in newest[:limit]])
        return
    print_table(_COLUMNS, map(_row, newest[:limit]), empty="No jobs.")
    if len(newest) > limit:
        click.echo(f"There are more; --limit {2 * limit} shows them.", err=True)


@jobs.command()
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="UTC days, with today.")
@json_option
def usage(days: int, as_json: bool) -> None:
    """Show what you have used, and of which quotas."""
    with client() as ouzel:
        used = ouzel.jobs.usage(days)
    if as_json:
        print_json({**dataclasses.asdict(used), "days": [_of_day(each) for each in used.days]})
        return
    columns = (Column("day"), Column("kind"), *(Column(name, right=True) for name in _USED))
    rows = ([str(each.day), each.kind, *(f"{getattr(each, name):.5g}" for name in _USED)] for each in used.days)
    print_table(columns, rows, empty=f"Nothing was used in the last {days} days.")
    click.echo()
    print_facts({"artifacts": file_size(used.artifact_bytes), "data sets": file_size(used.dataset_bytes)})
    if used.quotas:
        click.echo()
        limits = ((each.name, f"{each.used:.10g}", f"{each.limit:.10g}") for each in used.quotas)
        print_table((Column("quota"), Column("used", right=True), Column("limit", right=True)), limits)


@jobs.command()
@_id
@json_option
def show(job: str, as_json: bool) -> None:
    """Show a job, and the files that it has made."""
    with client() as ouzel:
        handle = ouzel.jobs.get(job)
        artifacts = [
            {name: value for name, value in dataclasses.asdict(each).items() if value is not None}  # no links
            for each in handle.artifacts()
        ]
    if as_json:
        print_json({**job_json(handle), "artifacts": artifacts})
        return
    print_facts(_facts(handle))
    if artifacts:
        click.echo()
        columns = (Column("file"), Column("type", shrinks=1), Column("size", right=True))
        print_table(columns, ((each["name"], each["media_type"], file_size(each["size"])) for each in artifacts))


@jobs.command()
@_id
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events after this sequence number.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per event and line.")
def watch(job: str, after: int, as_json: bool) -> None:
    """Show the progress of a job until it has ended.

    It is a bar on a terminal, else a line per state, phase and epoch. Exit status 1 if it did not succeed.
    """
    with client() as ouzel:
        handle = ouzel.jobs.get(job)
        if as_json:
            for event in handle.events(after):
                click.echo(json.dumps(_event(event), ensure_ascii=False))
            handle.refresh()
        else:
            show_how_it_goes(handle, sys.stdout, after)
        if handle.failure is not None:
            raise click.ClickException(str(handle.failure))


@jobs.command("download")
@_id
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--name", "names", multiple=True, help="Only this file; may be repeated.")
@json_option
def download_files(job: str, out: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Download the files that a job has made."""
    with client() as ouzel:
        files = download(ouzel.jobs.get(job), out, names)
    print_json(files) if as_json else click.echo("\n".join(files))


@jobs.command()
@_id
@click.option("--name", "names", multiple=True, help="Only of this file; may be repeated.")
@json_option
def links(job: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show where a GET has the files that a job has made, for a while, and their digests.

    Whoever has a link can read the file. What comes from there was not checked: compare its SHA-256.
    """
    with client() as ouzel:
        files = [each for each in ouzel.jobs.get(job).artifacts(links=True) if not names or each.name in names]
    if missing := set(names) - {each.name for each in files}:
        raise click.ClickException(f"{job} has no file {min(missing)!r:.80}")
    if files and not any(each.url for each in files):
        raise click.ClickException("this worker gives no links; `ouzel jobs download` fetches the files")
    if as_json:
        fields = ("name", "url", "url_expires", "sha256", "size")
        print_json([{name: getattr(each, name) for name in fields} for each in files])
        return
    for each in files:
        click.echo(f"{each.sha256}  {each.name}  {local_time(each.url_expires)}\n{each.url}")


@jobs.command()
@_id
@yes_option
@json_option
def delete(job: str, yes: bool, as_json: bool) -> None:
    """Delete a job that has ended, with its files."""
    with client() as ouzel:
        handle = ouzel.jobs.get(job)
        confirm(f"Delete {job} ({handle.kind} of {handle.model}, {handle.state}) and its files", yes)
        handle.delete()
    print_json({"deleted": job}) if as_json else click.echo(f"{job} is deleted")


def _verb(name: str, help_: str) -> None:
    @jobs.command(name, help=help_)
    @_id
    @json_option
    def act(job: str, as_json: bool) -> None:
        with client() as ouzel:
            handle = getattr(ouzel.jobs.get(job), name)()
        print_json(job_json(handle)) if as_json else click.echo(f"{handle.id} is {handle.state}")


_verb("cancel", "Stop a job. `ouzel jobs retry` continues it from its checkpoint.")
_verb("pause", "Stop a job after a checkpoint. `ouzel jobs resume` continues it.")
_verb("resume", "Queue a paused job.")
_verb("retry", "Queue a job that FAILED or was CANCELLED again.")


def _of_day(row: DayUsage) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "day": str(row.day)}


def _row(job: Job) -> tuple[object, ...]:
    done = how_far(job.progress.step, job.progress.steps, job.state)
    error = job._message.error.message
    return job.id, _verb_of(job), job.model, job.state, done, age(job.created), duration(job.duration), error


def _verb_of(job: Job) -> str:
    return next((verb for verb, kind in _KINDS.items() if kind == job.kind), job.kind)


def _facts(job: Job) -> dict[str, object]:
    progress = job.progress
    return {
        "job": job.id,
        "kind": _verb_of(job),
        "model": job.model,
        "state": job.state,
        "done": steps_of(progress.step, progress.steps, progress.phase, job.state),
        "attempt": job.attempt or "",
        "created": _moment(job.created),
        "started": _moment(job.started),
        "ended": _moment(job.ended),
        "duration": duration(job.duration),
        "labels": ", ".join(f"{name}={value}" for name, value in sorted(job.labels.items())),
        "error": job._message.error.message,
        "because of": (getattr(job.failure, "failure_class", "") or "").lower(),
        "error id": job._message.error.error_id,
    }


def _moment(time: Any) -> str:
    return f"{local_time(time)} ({age(time)} ago)" if time else ""


def _event(event: JobEvent) -> dict[str, Any]:
    values: dict[str, Any] = {"event": type(event).__name__.removesuffix("Event").lower()}
    for each in dataclasses.fields(event):
        values[each.name] = getattr(event, each.name)
    if isinstance(event, PreviewEvent):
        values["image"] = f"{len(event.image)} bytes"
    plain: dict[str, Any] = json.loads(json.dumps(values, default=_jsonable))
    return plain


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value.isoformat() if hasattr(value, "isoformat") else dict(value)
