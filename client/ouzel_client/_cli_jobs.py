"""`ouzel maximize`, `ouzel search` and `ouzel jobs`: long work on the worker."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from ouzel_client import _settings
from ouzel_client._job_types import Channel, ClassLogit, Direction, JobEvent, Node, PreviewEvent, Unit
from ouzel_client._sync._client import Client
from ouzel_client._sync._job import Job
from ouzel_client.errors import OuzelError

F = TypeVar("F", bound=Callable[..., Any])
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_id = click.argument("job")


@contextmanager
def client() -> Iterator[Client]:
    """A client of the worker, whose errors become one line."""
    try:
        with Client(worker=_settings.find_worker().target) as found:
            yield found
    except (OuzelError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


def _common(command: F) -> F:
    """What `maximize` and `search` share."""
    for option in reversed(
        (
            click.argument("model"),
            click.option(
                "--logit",
                "logits",
                multiple=True,
                metavar="CLASS",
                help="A class: its label or index (label:TEXT, index:N).",
            ),
            click.option("--channel", "channels", multiple=True, metavar="LAYER:C", help="The mean of a channel."),
            click.option(
                "--unit", "units", multiple=True, metavar="LAYER:C[:X:Y]", help="One unit; without X and Y the middle."
            ),
            click.option(
                "--direction", "directions", multiple=True, metavar="LAYER:W,W,...", help="Weights for all channels."
            ),
            click.option("--priority", type=click.IntRange(-100, 100), default=0, help="Higher runs first."),
            click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="To find the job by."),
            click.option("--max-seconds", type=click.FloatRange(min=1), help="Fail after running for so long."),
            click.option("--request-id", help="The same one again gives the same job."),
            click.option(
                "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for what the job leaves behind."
            ),
            click.option("--detach", is_flag=True, help="Do not wait: print the job's id."),
            json_option,
        )
    ):
        command = option(command)
    return command


@click.command()
@_common
@click.option("--recipe", default="fourier", show_default=True, help="pixel, fourier or maco.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Of the recipe: --set steps=512.")
@click.option("--images", type=click.IntRange(min=1), default=1, show_default=True, help="Per node.")
@click.option("--size", type=int, nargs=2, metavar="H W", help="Pixels of the images. Default: the model's input.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def maximize(
    model: str,
    *,
    recipe: str,
    settings: tuple[str, ...],
    images: int,
    size: tuple[int, int] | None,
    seed: int,
    **common: Any,
) -> None:
    """Have the worker seek the images that excite nodes of MODEL most.

    Waits, and shows how it goes, unless --detach. Ctrl-C leaves the job running.
    """
    parameters = dict(setting(text) for text in settings)
    targets, options = _targets(common), _options(common)
    with client() as ouzel:
        job = ouzel.jobs.maximize(
            model,
            targets,
            recipe=recipe,
            parameters=parameters,
            images_per_target=images,
            size=size or None,
            seed=seed,
            **options,
        )
        follow(job, **common)


@click.command()
@_common
@click.option("--dataset", default="", help="Name of a data set. Default: the photographs that come with the worker.")
@click.option("--top-k", type=click.IntRange(min=1), default=9, show_default=True, help="Images per node.")
def search(model: str, dataset: str, top_k: int, **common: Any) -> None:
    """Have the worker find the images of a data set that excite nodes of MODEL most."""
    targets, options = _targets(common), _options(common)
    with client() as ouzel:
        follow(ouzel.jobs.search_activations(model, targets, dataset=dataset, top_k=top_k, **options), **common)


@click.group()
def jobs() -> None:
    """The jobs of the worker."""


@jobs.command("list")
@click.option("--state", "states", multiple=True, help="Only those in this state; may be repeated.")
@click.option("--kind", default="", help="maximize, search_activations or finetune.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@json_option
def list_jobs(states: tuple[str, ...], kind: str, labels: tuple[str, ...], limit: int, as_json: bool) -> None:
    """The newest first."""
    with client() as ouzel:
        wanted: Any = tuple(state.upper() for state in states)
        listed = ouzel.jobs.list(states=wanted, kind=kind, labels=dict(map(_label, labels)))
        found = [job for job, _ in zip(listed, range(limit), strict=False)]
    if as_json:
        print_json([_plain(job) for job in found])
        return
    table = Table("job", "kind", "state", "step", "attempt", box=None)
    for job in found:
        table.add_row(job.id, job.kind, job.state, f"{job.progress.step}/{job.progress.steps or '?'}", str(job.attempt))
    Console().print(table)


@jobs.command()
@_id
@json_option
def show(job: str, as_json: bool) -> None:
    """How a job stands, and what it has left behind."""
    with client() as ouzel:
        found = ouzel.jobs.get(job)
        artifacts = [dataclasses.asdict(each) for each in found.artifacts()]
    if as_json:
        print_json({**_plain(found), "artifacts": artifacts})
        return
    click.echo(_line(found))
    if found.failure is not None:
        click.echo(str(found.failure))
    for each in artifacts:
        click.echo(f"  {each['name']}  {each['size']} bytes")


@jobs.command()
@_id
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events after this sequence number.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per event and line.")
def watch(job: str, after: int, as_json: bool) -> None:
    """Show how a job goes until it has ended. Exit status 1 if it did not succeed."""
    with client() as ouzel:
        found = ouzel.jobs.get(job)
        if as_json:
            for event in found.events(after):
                click.echo(json.dumps(_event(event), ensure_ascii=False))
            found.refresh()
        else:
            _watch(found)
        if found.failure is not None:
            raise click.ClickException(str(found.failure))


@jobs.command()
@_id
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--name", "names", multiple=True, help="Only this file; may be repeated.")
@json_option
def download(job: str, out: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Fetch what a job has left behind."""
    with client() as ouzel:
        files = _download(ouzel.jobs.get(job), out, names)
    print_json(files) if as_json else click.echo("\n".join(files))


@jobs.command()
@_id
@json_option
def delete(job: str, as_json: bool) -> None:
    """Remove a job that has ended, with what it left behind."""
    with client() as ouzel:
        ouzel.jobs.get(job).delete()
    print_json({"deleted": job}) if as_json else click.echo(f"{job} is deleted")


def _verb(name: str, help_: str) -> None:
    @jobs.command(name, help=help_)
    @_id
    @json_option
    def act(job: str, as_json: bool) -> None:
        with client() as ouzel:
            found = getattr(ouzel.jobs.get(job), name)()
        print_json(_plain(found)) if as_json else click.echo(_line(found))


_verb("cancel", "Stop a job.")
_verb("pause", "Have a job write a checkpoint and free its processor.")
_verb("resume", "Queue a paused job.")
_verb("retry", "Queue a job that FAILED or was CANCELLED once more.")


def follow(job: Job, *, detach: bool, out: Path | None, as_json: bool, **_: Any) -> None:
    if detach:
        print_json(_plain(job)) if as_json else click.echo(job.id)
        return
    _watch(job)
    if job.failure is not None:
        raise click.ClickException(str(job.failure))
    files = _download(job, out) if out is not None else []
    if as_json:
        summary = job.result(pictures=False).summary
        print_json({**_plain(job), "summary": dict(summary), "files": files})
    else:
        click.echo("\n".join(files) or f"{job.id}: `ouzel jobs download {job.id} --out FOLDER` fetches what it found")


def _watch(job: Job) -> None:
    try:
        job.watch()
    except KeyboardInterrupt:
        click.echo(f"The job goes on; `ouzel jobs watch {job.id}` shows it, `ouzel jobs cancel` ends it.", err=True)
        raise click.exceptions.Exit(130) from None


def _download(job: Job, out: Path, names: tuple[str, ...] = ()) -> list[str]:
    known = [each.name for each in job.artifacts()]
    files = []
    for name in names or known:
        path = out / name
        if name in known and not path.resolve().is_relative_to(out.resolve()):
            raise click.ClickException(f"{name}: leads out of {out}")
        job.download(name, path)
        files.append(str(path))
    return files


def _targets(common: dict[str, Any]) -> list[Node]:
    nodes: list[Node] = [ClassLogit(text) for text in common.pop("logits")]
    for text in common.pop("channels"):
        layer, numbers = _place(text, "channel", "LAYER:C", (1,))
        nodes.append(Channel(layer, numbers[0]))
    for text in common.pop("units"):
        layer, numbers = _place(text, "unit", "LAYER:C or LAYER:C:X:Y", (1, 3))
        nodes.append(Unit(layer, *numbers))
    for text in common.pop("directions"):
        layer, _, weights = text.rpartition(":")
        try:
            nodes.append(Direction(layer, tuple(float(weight) for weight in weights.split(","))))
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not LAYER:W,W,...", param_hint="--direction") from error
    if not nodes:
        raise click.UsageError("name at least one --logit, --channel, --unit or --direction")
    return nodes


def _options(common: dict[str, Any]) -> dict[str, Any]:
    return {
        "priority": common.pop("priority"),
        "labels": dict(map(_label, common.pop("labels"))),
        "max_seconds": common.pop("max_seconds"),
        "request_id": common.pop("request_id"),
    }


def _place(text: str, option: str, form: str, counts: tuple[int, ...]) -> tuple[str, list[int]]:
    layer, *numbers = text.split(":")
    if not layer or len(numbers) not in counts or not all(number.isdecimal() for number in numbers):
        raise click.BadParameter(f"{text!r} is not {form}, with whole numbers", param_hint=f"--{option}")
    return layer, [int(number) for number in numbers]


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE of a recipe: a number, or true or false."""
    name, value = _label(text, "--set")
    if value in ("true", "false"):
        return name, value == "true"
    try:
        return name, int(value) if value.lstrip("-").isdecimal() else float(value)
    except ValueError:
        raise click.BadParameter(
            f"{name}: {value!r} is neither a number nor true or false", param_hint="--set"
        ) from None


def _label(text: str, option: str = "--label") -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value


def _plain(job: Job) -> dict[str, Any]:
    failure = job.failure
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "attempt": job.attempt,
        "progress": dataclasses.asdict(job.progress),
        "labels": dict(job.labels),
        "error": None if failure is None else str(failure),
    }


def _event(event: JobEvent) -> dict[str, Any]:
    values: dict[str, Any] = {"event": type(event).__name__.removesuffix("Event").lower()}
    for each in dataclasses.fields(event):
        values[each.name] = getattr(event, each.name)
    if isinstance(event, PreviewEvent):
        values["image"] = f"{len(event.image)} bytes"
    return json.loads(json.dumps(values, default=_jsonable))  # type: ignore[no-any-return]  # a dict, as it was


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value.isoformat() if hasattr(value, "isoformat") else dict(value)


def _line(job: Job) -> str:
    done = job.progress
    return f"{job.id}  {job.kind}  {job.state}  step {done.step} of {done.steps or '?'}  attempt {job.attempt}"


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
