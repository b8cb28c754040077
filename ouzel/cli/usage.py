"""`ouzel usage`: what owners have used, read in the job store itself."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.cli._common import state as state_option
from ouzel.cli._errors import Command
from ouzel.databases.urls import is_postgres, sqlite_file
from ouzel.errors import NotFound
from ouzel_client.terminal import Column, file_size, json_option, print_json, print_table
from ouzel_protos.local import state_dir

if TYPE_CHECKING:
    from ouzel.worker.options import WorkerOptions

_COLUMNS = (
    Column("owner", shrinks=1),
    Column("day"),
    Column("kind"),
    Column("seconds", right=True),
    Column("GPU seconds", right=True),
    Column("succeeded", right=True),
    Column("failed", right=True),
    Column("cancelled", right=True),
)
_STORED = (Column("owner", shrinks=1), Column("artifacts", right=True), Column("data sets", right=True))


@click.command(cls=Command)
@state_option("State folder of the worker.")
@click.option(
    "--jobs",
    envvar="OUZEL_WORKER_JOBS",
    show_envvar=True,
    help="Database of the jobs. [default: SQLite in the state folder]",
)
@click.option(
    "--artifacts",
    envvar="OUZEL_WORKER_ARTIFACTS",
    show_envvar=True,
    help="Folder of the files of jobs, or s3://BUCKET/PREFIX. [default: in the state folder]",
)
@click.option(
    "--uploads",
    envvar="OUZEL_WORKER_UPLOADS",
    show_envvar=True,
    help="Folder of the data sets, or s3://BUCKET/PREFIX. [default: next to the artifacts]",
)
@click.option("--owner", help="Of one owner only.")
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="UTC days, with today.")
@json_option
def usage(
    *,
    state: Path | None,
    jobs: str | None,
    artifacts: str | None,
    uploads: str | None,
    owner: str | None,
    days: int,
    as_json: bool,
) -> None:
    """Show what owners have used: seconds of running and of GPUs by day and kind of job, and bytes stored.

    It reads the worker's database and files, whether the worker runs or not. Callers see their own with `ouzel jobs
    usage`.
    """
    try:
        from ouzel.worker.options import WorkerOptions
        from ouzel.worker.store.open import open_store
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed; run `pip install 'ouzel[worker]'`") from error
    options = WorkerOptions(state=state or state_dir(), store=jobs or "", artifacts=artifacts, uploads=uploads)
    if not is_postgres(options.store_url) and not sqlite_file(options.store_url, "jobs").exists():
        raise NotFound(f"there is no job store in {sqlite_file(options.store_url, 'jobs')}")
    with closing(open_store(options.store_url, check=False)) as store:
        used = [asdict(each) for each in store.usage(owner, days)]
        kept = store.artifact_bytes_by_owner()
    stored = _stored(options, kept, owner)
    if as_json:
        print_json({"usage": used, "stored": stored})
        return
    print_table(
        _COLUMNS,
        ([f"{value:.1f}" if isinstance(value, float) else value for value in each.values()] for each in used),
        empty=f"Nothing was used in the last {days} days.",
    )
    if stored:
        click.echo()
        rows = ((each["owner"], file_size(each["artifacts"]), file_size(each["datasets"])) for each in stored)
        print_table(_STORED, rows)


def _stored(options: WorkerOptions, artifacts: Any, owner: str | None) -> list[dict[str, Any]]:
    from ouzel.worker.datasets.opening import open_storage

    storage = open_storage(options.upload_place, options.environment.upload_cache)
    owners = {*artifacts, *storage.owners()}
    chosen = sorted(owners if owner is None else owners & {owner})
    return [
        {"owner": each, "artifacts": artifacts.get(each, 0), "datasets": storage.files(each).total()} for each in chosen
    ]
