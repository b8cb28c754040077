"""`ouzel datasets`, `ouzel finetune` and `ouzel tuned`: from labelled images to a served model."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ouzel_client._cli_jobs import client as _client
from ouzel_client._cli_jobs import follow, json_option, print_json, setting
from ouzel_client._dataset_types import Dataset, DatasetReport, report_of
from ouzel_client._job_types import FinetuneResult
from ouzel_client._model_types import StoredModel
from ouzel_client._sync._job import Job

_ID = re.compile(r"[0-9a-f]{64}")
_LINKS = "Also follow links that lead out of the folder."
_TOLD = 20  # files that are left out, of which a terminal is told by name


@click.group()
def datasets() -> None:
    """The data sets that jobs learn from."""


@datasets.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--title", default="", help="For people.")
@click.option("--masks", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of PNG masks.")
@click.option("--follow-links", is_flag=True, help=_LINKS)
@click.option("--check", is_flag=True, help="Have every image looked at, and print what was found.")
@json_option
def upload(source: Path, *, title: str, masks: Path | None, follow_links: bool, check: bool, as_json: bool) -> None:
    """Send the images of SOURCE: a folder LABEL/FILE or SPLIT/LABEL/FILE, or a zip file of one."""
    with _client() as ouzel:
        made = ouzel.datasets.upload(source, title=title, masks=masks, follow_links=follow_links)
        _tell_left_out(made)
        report = ouzel.datasets.check(made.id) if check else None
    if as_json:
        print_json(_plain(made) | ({"report": _report(report)} if report else {}))
        return
    click.echo(made.id)
    click.echo(report if report else f"{made.images} images of {len(made.classes)} classes", err=report is None)


@datasets.command("list")
@json_option
def list_datasets(as_json: bool) -> None:
    """The newest first."""
    with _client() as ouzel:
        found = list(ouzel.datasets.list())
    if as_json:
        print_json([_plain(each) for each in found])
        return
    table = Table("data set", "title", "images", "classes", "created", box=None)
    for each in found:
        created = each.created.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(each.id[:12], each.title, str(each.images), str(len(each.classes)), created)
    Console().print(table)


@datasets.command()
@click.argument("dataset")
@json_option
def show(dataset: str, as_json: bool) -> None:
    """What a data set holds."""
    with _client() as ouzel:
        found = ouzel.datasets.get(_full(ouzel, dataset))
    if as_json:
        print_json(_plain(found))
        return
    click.echo(f"{found.id}  {found.title}\n{found.images} images, {found.bytes} bytes, {found.masks} masks")
    for label, count in found.classes.items():
        click.echo(f"  {label}  {count}")


@datasets.command()
@click.argument("dataset")
@json_option
def check(dataset: str, as_json: bool) -> None:
    """Have every image looked at. Exit status 1 if a job would not train on it."""
    with _client() as ouzel:
        report = ouzel.datasets.check(_full(ouzel, dataset))
    print_json(_report(report)) if as_json else click.echo(report)
    if not report.usable:
        raise click.exceptions.Exit(1)


@datasets.command()
@click.argument("dataset")
@json_option
def delete(dataset: str, as_json: bool) -> None:
    """Remove a data set that no job needs."""
    with _client() as ouzel:
        found = _full(ouzel, dataset)
        ouzel.datasets.delete(found)
    print_json({"deleted": found}) if as_json else click.echo(f"{found} is deleted")


@click.command()
@click.argument("source", required=False)
@click.option("--base", help="The model to start from: NAME or NAME@VERSION.")
@click.option("--name", help="Of the new model; one that is there gets its next version.")
@click.option(
    "--like", metavar="NAME[@VERSION]", help="Repeat the run that made this model, but for what is given beside it."
)
@click.option("--recipe", help="feature_extractor, fine_tune, lp_ft or scratch.  [default: lp_ft]")
@click.option(
    "--promote",
    type=click.Choice(["never", "if_better", "always"]),
    help="Whether callers who name no version get the new one.  [default: if_better]",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Of the recipe: --set epochs=10.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the split and of all that chance gives.  [default: 0]")
@click.option("--max-training-seconds", type=click.FloatRange(min=0), help="Train for so long at most.")
@click.option("--image-size", type=click.IntRange(min=0), help="Pixels along each edge of the new input.")
@click.option("--follow-links", is_flag=True, help=_LINKS)
@click.option("--check", "only_check", is_flag=True, help="Look at the images, and train nothing.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report.")
@click.option("--detach", is_flag=True, help="Do not wait: print the job's id.")
@json_option
def finetune(
    source: str | None,
    *,
    base: str | None,
    name: str | None,
    like: str | None,
    settings: tuple[str, ...],
    follow_links: bool,
    only_check: bool,
    out: Path | None,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make BASE a classifier of the images of SOURCE: a folder, a zip file, or the id of a data set.

    Waits, and shows how it goes, unless --detach. Ctrl-C leaves the job running.

    With --like, all that is not given is as it was in the run that made that model: base, data set, recipe, parameters,
    seed, size and name.
    """
    for option, value in (("SOURCE", source), ("--base", base), ("--name", name)):
        if like is None and value is None:
            raise click.UsageError(f"Missing {option}; or repeat a run with --like.")
    options |= {"parameters": dict(setting(text) for text in settings) or None, "name": name, "like": like}
    with _client() as ouzel:
        dataset = source
        if source is not None and not _ID.fullmatch(source) and "://" not in source:
            made = ouzel.datasets.upload(source, title=Path(source).name, follow_links=follow_links)
            _tell_left_out(made)
            dataset = made.id
        if only_check:
            found = ouzel.jobs.check_finetune(base, dataset, **options)
            print_json(found) if as_json else click.echo(report_of(found))
            if not found["usable"]:
                raise click.exceptions.Exit(1)
            return
        job = ouzel.jobs.finetune(base, dataset, **options)
        follow(job, detach=detach, out=out, as_json=as_json)
        if not detach and not as_json:
            click.echo(_outcome(job))


@click.group()
def tuned() -> None:
    """The models of the worker's store: versions, and which of them is the default."""


@tuned.command("list")
@click.argument("name", default="")
@json_option
def list_models(name: str, as_json: bool) -> None:
    """All models, or the versions of NAME."""
    with _client() as ouzel:
        found = ouzel.models.list(name)
    if as_json:
        print_json([_model(each) for each in found])
        return
    table = Table("model", "version", "default", "served", "classes", "accuracy", "base", box=None)
    for each in found:
        metrics = each.lineage.get("metrics", {})
        accuracy = f"{100 * metrics['accuracy']:.1f} %" if "accuracy" in metrics else ""
        base = f"{each.lineage['base']}@{each.lineage['base_version']}" if "base_version" in each.lineage else ""
        marks = ("yes" if each.is_default else "", "yes" if each.served else "")
        table.add_row(each.name, each.version, *marks, str(each.classes), accuracy, base)
    Console().print(table)


@tuned.command("show")
@click.argument("name")
@click.option("--version", default="", help="Default: the default.")
@json_option
def show_model(name: str, version: str, as_json: bool) -> None:
    """Labels, preprocessing and lineage of a model."""
    with _client() as ouzel:
        found = ouzel.models.describe(name, version)
    details = {"labels": list(found.labels), "preprocessing": dict(found.preprocessing)}
    layers = {layer: list(shape) for layer, shape in found.layers.items()}
    if as_json:
        print_json(_model(found.model) | details | {"layers": layers})
        return
    for key, value in (_model(found.model) | details).items():
        click.echo(f"{key}: {value}")


@tuned.command()
@click.argument("name")
@click.option("--version", required=True)
@json_option
def promote(name: str, version: str, as_json: bool) -> None:
    """Give callers who name no version this one."""
    with _client() as ouzel:
        found = ouzel.models.promote(name, version)
    print_json(_model(found)) if as_json else click.echo(f"{name}: version {found.version} is the default")


@tuned.command("delete")
@click.argument("name")
@click.option("--version", required=True)
@json_option
def delete_model(name: str, version: str, as_json: bool) -> None:
    """Remove one version, that is not the default beside others."""
    with _client() as ouzel:
        ouzel.models.delete(name, version)
    print_json({"deleted": f"{name}@{version}"}) if as_json else click.echo(f"{name}@{version} is deleted")


def _full(ouzel: Any, dataset: str) -> str:
    """An id may be shortened to what is unique."""
    if _ID.fullmatch(dataset):
        return dataset
    found = [each.id for each in ouzel.datasets.list() if dataset and each.id.startswith(dataset)]
    if len(found) != 1:
        raise click.ClickException(f"{dataset!r} is the beginning of {len(found) or 'no'} data sets' ids")
    return str(found[0])


def _outcome(job: Job) -> str:
    found = job.result(pictures=False)
    if not isinstance(found, FinetuneResult):
        raise TypeError(f"{job.id} is of kind {job.kind}")
    if found.promoted:
        promoted = "it is the default"
    else:
        promoted = f"it is not the default, `ouzel tuned promote {found.model} --version {found.version}` makes it that"
    served = "" if found.served else "; not served yet"
    return "\n".join((f"{found}; {promoted}{served}", *found.notes))


def _tell_left_out(dataset: Dataset) -> None:
    for name, reason in dataset.left_out[:_TOLD]:
        click.echo(f"left out: {name!r}: {reason}", err=True)
    if len(dataset.left_out) > _TOLD:
        click.echo(f"left out: {len(dataset.left_out) - _TOLD} more; `--json` of `datasets upload` names all", err=True)


def _plain(dataset: Dataset) -> dict[str, Any]:
    values = {each.name: getattr(dataset, each.name) for each in dataclasses.fields(dataset)}
    values["left_out"] = [{"name": name, "reason": reason} for name, reason in dataset.left_out]
    return values | {"created": dataset.created.isoformat(), "classes": dict(dataset.classes)}


def _report(report: DatasetReport) -> dict[str, Any]:
    values = {each.name: getattr(report, each.name) for each in dataclasses.fields(report)}
    refused = [{"path": path, "reason": reason} for path, reason in report.refused]
    duplicates = [dataclasses.asdict(each) for each in report.duplicates]
    return values | {"classes": dict(report.classes), "refused": refused, "duplicates": duplicates}


def _model(model: StoredModel) -> dict[str, Any]:
    values = {each.name: getattr(model, each.name) for each in dataclasses.fields(model)}
    return values | {"lineage": dict(model.lineage)}
