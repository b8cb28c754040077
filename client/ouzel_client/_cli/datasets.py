"""`ouzel datasets`: the images that jobs learn from and audit."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ouzel_client._cli.follow import client as _client
from ouzel_client.terminal import (
    Column,
    confirm,
    file_size,
    json_option,
    local_time,
    print_facts,
    print_json,
    print_table,
    shown,
    yes_option,
)

if TYPE_CHECKING:
    from ouzel_client._types.datasets import Dataset, DatasetReport

Kind = Literal["labels", "masks", "boxes"]
_COLUMNS = (
    Column("data set"),
    Column("title", shrinks=1),
    Column("images", right=True),
    Column("classes", right=True),
    Column("size", right=True),
    Column("created", shrinks=2),
)
_ID = re.compile(r"[0-9a-f]{64}")
MASKED = "SOURCE has images/ and masks/, with classes.txt; or annotations.json."
BOXED = "SOURCE has images/, and boxes.csv or annotations.json."
LINKS = "Also follow links that lead out of the folder."
_TOLD = 20  # names of files that are left out, at most, on a terminal


@click.group()
def datasets() -> None:
    """Upload, list, show, check and delete the data sets that jobs learn from."""


@datasets.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--title", default="", help="For people.")
@click.option("--masks", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of PNG masks.")
@click.option("--masked", is_flag=True, help=MASKED)
@click.option("--boxed", is_flag=True, help=BOXED)
@click.option("--follow-links", is_flag=True, help=LINKS)
@click.option("--check", is_flag=True, help="Check every image too, and print the report.")
@json_option
def upload(
    source: Path,
    *,
    title: str,
    masks: Path | None,
    masked: bool,
    boxed: bool,
    follow_links: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Upload the images of SOURCE: a folder LABEL/FILE or SPLIT/LABEL/FILE, or a zip file of one.

    With --masked, a folder of images and masks of classes, which the recipe segment learns from. With --boxed, one of
    images and boxes of objects, which the recipe detect learns from.
    """
    if masked and boxed:
        raise click.UsageError("--masked, --boxed: SOURCE holds one of them")
    if masked and masks is not None:
        raise click.UsageError("--masked: the masks lie in SOURCE; --masks is of objects in labelled images")
    if boxed and masks is not None:
        raise click.UsageError("--boxed: has no masks; --masks is of objects in labelled images")
    options: dict[str, Any] = {"title": title, "follow_links": follow_links, "progress": shown(as_json)}
    with _client() as ouzel:
        if masked:
            made = ouzel.datasets.upload_masked(source, **options)
        elif boxed:
            made = ouzel.datasets.upload_boxed(source, **options)
        else:
            made = ouzel.datasets.upload(source, masks=masks, **options)
        _tell_left_out(made)
        report = ouzel.datasets.check(made.id) if check else None
    if as_json:
        print_json(_plain(made) | ({"report": _report(report)} if report else {}))
        return
    click.echo(made.id)
    count = len(made.mask_classes or made.box_classes or made.classes)
    click.echo(report if report else f"{made.images} images of {count} classes", err=report is None)


@datasets.command("list")
@json_option
def list_datasets(as_json: bool) -> None:
    """List the data sets, newest first."""
    with _client() as ouzel:
        listed = list(ouzel.datasets.list())
    if as_json:
        print_json([_plain(each) for each in listed])
        return
    print_table(_COLUMNS, map(_row, listed), empty="No data sets.")


@datasets.command()
@click.argument("dataset")
@json_option
def show(dataset: str, as_json: bool) -> None:
    """Show what a data set contains."""
    with _client() as ouzel:
        stored = ouzel.datasets.get(_full(ouzel, dataset))
    if as_json:
        print_json(_plain(stored))
        return
    print_facts(
        {
            "data set": stored.id,
            "title": stored.title,
            "created": local_time(stored.created),
            "images": stored.images,
            "masks": stored.masks,
            **({"boxes": stored.boxes} if stored.box_classes else {}),
            "size": file_size(stored.bytes),
        }
    )
    click.echo()
    if stored.mask_classes:
        print_table((Column("value", right=True), Column("class")), enumerate(stored.mask_classes))
        return
    if stored.box_classes:
        print_table((Column("number", right=True), Column("class")), enumerate(stored.box_classes, 1))
        return
    print_table((Column("class"), Column("images", right=True)), stored.classes.items())


@datasets.command()
@click.argument("dataset")
@json_option
def check(dataset: str, as_json: bool) -> None:
    """Check every image. Exit status 1 if a job cannot train on the data set."""
    with _client() as ouzel:
        report = ouzel.datasets.check(_full(ouzel, dataset))
    print_json(_report(report)) if as_json else click.echo(report)
    if not report.usable:
        raise click.exceptions.Exit(1)


@datasets.command()
@click.argument("dataset")
@yes_option
@json_option
def delete(dataset: str, yes: bool, as_json: bool) -> None:
    """Delete a data set that no job needs."""
    with _client() as ouzel:
        stored = ouzel.datasets.get(_full(ouzel, dataset))
        title = f" {stored.title!r}" if stored.title else ""
        confirm(f"Delete the data set {stored.id[:12]}{title} ({stored.images} images)", yes)
        ouzel.datasets.delete(stored.id)
    print_json({"deleted": stored.id}) if as_json else click.echo(f"{stored.id} is deleted")


def dataset_of(
    ouzel: Any,
    source: str,
    *,
    masks: Path | None = None,
    kind: Kind = "labels",
    follow_links: bool = False,
    as_json: bool = False,
) -> str:
    """The id of a data set; a folder or a zip file is uploaded. URIs stay as they are. kind: what its images have."""
    if _ID.fullmatch(source) or "://" in source:
        if masks is not None:
            raise click.UsageError("--masks: only images that are uploaded now can get masks")
        return source
    options: dict[str, Any] = {"title": Path(source).name, "follow_links": follow_links, "progress": shown(as_json)}
    made: Dataset
    if kind != "labels":
        if masks is not None:
            raise click.UsageError(f"--masks: of objects in labelled images; the {kind} lie in SOURCE")
        upload_ = ouzel.datasets.upload_masked if kind == "masks" else ouzel.datasets.upload_boxed
        made = upload_(source, **options)
    else:
        made = ouzel.datasets.upload(source, masks=masks, **options)
    _tell_left_out(made)
    return made.id


def _full(ouzel: Any, dataset: str) -> str:
    """The id that begins like this; an id may be shortened as long as it is unique."""
    if _ID.fullmatch(dataset):
        return dataset
    matches = [each.id for each in ouzel.datasets.list() if dataset and each.id.startswith(dataset)]
    if len(matches) != 1:
        raise click.ClickException(f"{dataset!r} is the beginning of {len(matches) or 'no'} data sets' ids")
    return str(matches[0])


def _row(dataset: Dataset) -> tuple[object, ...]:
    size = file_size(dataset.bytes)
    count = len(dataset.mask_classes or dataset.box_classes or dataset.classes)
    return dataset.id[:12], dataset.title, dataset.images, count, size, local_time(dataset.created)


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
