"""`ouzel audit sink`: watch the stream of another service."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click

from ouzel.cli._common import log_format as log_format_option
from ouzel.cli._errors import Command
from ouzel.telemetry import logs
from ouzel_client.terminal import print_json
from ouzel_protos.local import state_dir


@click.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8095, show_default=True, help="0 selects a free port.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="OUZEL_SINK_STATE",
    show_envvar=True,
    help="Folder of the database. [default: sink, in the state folder of Ouzel]",
)
@click.option("--check", is_flag=True, help="Read the file, say what it means, and stop.")
@click.option("--report", "reported", is_flag=True, help="Print the report of what was audited, as JSON, and stop.")
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="Of the report.")
@click.option("--clear", type=int, metavar="ALERT", help="Clear an alert by its number, and stop.")
@log_format_option
def sink(
    file: Path,
    *,
    host: str,
    port: int,
    state: Path | None,
    check: bool,
    reported: bool,
    days: int,
    clear: int | None,
    log_format: str,
) -> None:
    """Watch the stream of another service: take its requests and responses as CloudEvents, audit a sample, and raise
    an alert when predictions begin to rest on backgrounds, or stop to agree.

    FILE says which services, how their bodies look, and who audits (docs/audit-sink.md). --report and --clear work
    beside a sink that runs.
    """
    try:
        from ouzel.databases.sqlite import SqliteDatabase
        from ouzel.sink import alerts, report, server
        from ouzel.sink.file import read
        from ouzel.sink.schema import SINK
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed; run `pip install 'ouzel[sink]'`") from error
    config, folder = read(file), state or state_dir() / "sink"
    if check:
        print_json({each.name: each.document() | {"design_sha256": each.sha256()} for each in config.services})
        return
    if reported or clear is not None:
        if not (folder / server.FILE).is_file():
            raise click.ClickException(f"--state: there is no sink in {folder}")
        database = SqliteDatabase(folder / server.FILE, SINK, check=False)
        try:
            if clear is not None:
                service = database.write(lambda c: alerts.clear(c, clear))
                click.echo(f"alert {clear} of {service} is cleared")
            else:
                print_json(_json(database.read(lambda c: report.report(c, config, days=days))))
        finally:
            database.close()
        return
    logs.configure(log_format=log_format)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # else each stranger writes a line
    options = server.SinkOptions(config, folder, host, port)
    server.run(options, _announce)


def _announce(address: str) -> None:
    click.echo(logs.event(f"Events are accepted at {address}. Ctrl-C stops the sink.", name="ouzel.sink"))


def _json(values: Any) -> Any:
    """Without tuples."""
    return json.loads(json.dumps(values))


if __name__ == "__main__":
    sink(prog_name="ouzel audit sink")
