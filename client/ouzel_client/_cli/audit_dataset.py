"""`ouzel audit-dataset`: whether the predictions on many images rest on the objects, in a job of the worker."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ouzel_client._cli.datasets import dataset_of
from ouzel_client._cli.follow import client, cost_option, follow, notify_option
from ouzel_client._types.audit_job import DatasetAuditResult, RecordedPrediction
from ouzel_client.arguments import setting
from ouzel_client.terminal import json_option

_COLUMNS = ("path", "label", "service", "time")


@click.command("audit-dataset")
@click.argument("source")
@click.option("--model", help="The model that is audited: NAME or NAME@VERSION.")
@click.option("--endpoint", help="Instead of a model, an endpoint that the worker's operator registered.")
@click.option("--surrogate", help="A model whose maps stand in for those of an endpoint or of recorded predictions.")
@click.option(
    "--recorded",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"CSV of what a service decided, with the columns {', '.join(_COLUMNS)}; the last two may be missing.",
)
@click.option("--masks", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of PNG masks.")
@click.option("--method", help="Saliency method of the maps.  [default: grad_cam]")
@click.option("--scene", "scenes", multiple=True, metavar="LABEL", help="A class that is a place.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A margin or a size: --set flip=0.1.")
@click.option("--seed", type=click.IntRange(min=0), help="Of all that is drawn.  [default: 0]")
@click.option("--organisation", help="Named on the pages for the persons concerned.")
@click.option("--contact", help="Whom these persons may ask.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report.")
@click.option("--detach", is_flag=True, help="Do not wait: print the job's id.")
@cost_option
@notify_option
@json_option
def audit_dataset(
    source: str,
    *,
    recorded: Path | None,
    masks: Path | None,
    scenes: tuple[str, ...],
    settings: tuple[str, ...],
    out: Path | None,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Audit the predictions on the images of SOURCE: a folder LABEL/FILE, a zip file of one, or the id of a data set.

    Waits and shows the progress, unless --detach. Ctrl-C leaves the job running. The exit status is 0 for every
    verdict.
    """
    options |= {
        "scenes": scenes or None,
        "parameters": dict(setting(text) for text in settings) or None,
        "recorded": _rows(recorded) if recorded is not None else None,
    }
    with client() as ouzel:
        job = ouzel.jobs.audit(dataset_of(ouzel, source, masks=masks, as_json=as_json), **options)
        follow(job, detach=detach, out=out, as_json=as_json)
        if not detach and not as_json:
            result = job.result(pictures=False)
            if isinstance(result, DatasetAuditResult):
                click.echo(str(result))


def _rows(path: Path) -> list[RecordedPrediction]:
    """The rows of a CSV file. Raises click.ClickException, which names the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            twice = {name for name in reader.fieldnames or () if (reader.fieldnames or []).count(name) > 1}
            if twice:
                raise click.ClickException(f"--recorded: {path} has the column {min(twice)!r:.40} twice")
            missing = [name for name in _COLUMNS[:2] if name not in (reader.fieldnames or ())]
            if missing:
                raise click.ClickException(f"--recorded: {path} has no column {' and no column '.join(missing)}")
            rows = [_row(row, f"{path}:{reader.line_num}") for row in reader]
            if not rows:
                raise click.ClickException(f"--recorded: {path} has no rows")
            return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(f"--recorded: {path} is not a CSV file in UTF-8 ({error})") from error


def _row(row: dict[str | None, Any], place: str) -> RecordedPrediction:
    if None in row:
        raise click.ClickException(f"--recorded: {place}: has more cells than the header; quote labels with commas")
    path, label, service, time = (row.get(name) or "" for name in _COLUMNS)
    try:
        moment = datetime.fromisoformat(time) if time else None
    except ValueError:
        raise click.ClickException(f"--recorded: {place}: time {time!r:.40} is not a time as of ISO 8601") from None
    if moment is not None and moment.tzinfo is None:
        raise click.ClickException(f"--recorded: {place}: time {time!r:.40} has no time zone")
    return RecordedPrediction(path, label, service, moment)
