"""`ouzel models load` and `unload`, and what `ouzel up` shows while models load."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from ouzel.cli._common import print_json
from ouzel.cli._common import state as state_option
from ouzel.cli._errors import Command
from ouzel.cli._recording import recording
from ouzel.errors import FailedPrecondition
from ouzel.model_files import ModelFiles
from ouzel.serving.loading import Loading, Tell
from ouzel.torchserve import publication
from ouzel_client.terminal import json_option
from ouzel_protos.local import read_serving, state_dir

_NAMED = 3  # versions that are named before the rest is counted

_state = state_option(
    "State folder of the services.",
    callback=lambda _context, _option, value: (value or state_dir()).expanduser().absolute(),
)


@click.command(cls=Command)
@click.argument("name", metavar="NAME[@VERSION]")
@_state
@json_option
def load(name: str, state: Path, as_json: bool) -> None:
    """Load a model into the running services.

    NAME loads the default version, NAME@VERSION another one. The version stays loaded until you unload it, or until
    another version of the model is published or promoted. Then only the default version and the newest versions stay
    loaded, as many as `ouzel up --loaded-versions` says.
    """
    server = _server(state)
    running = read_serving(state)
    assert running is not None
    store = ModelFiles(running["model_store"])
    file = store.file(name)
    there = bool(publication.versions(server, file.name, file.version))
    if not there:
        with recording(state) as record:
            publication.load_served(server, store, file, record=record)
    if as_json:
        print_json({"name": file.name, "version": file.version, "loaded": not there})
    else:
        click.echo(f"{file.name} {file.version} {'was loaded already' if there else 'is loaded'}.")


@click.command(cls=Command)
@click.argument("name", metavar="NAME[@VERSION]")
@_state
@json_option
def unload(name: str, state: Path, as_json: bool) -> None:
    """Unload a model from the running services.

    NAME unloads all versions, NAME@VERSION only that one. The model stays in the store.
    """
    model, _, version = name.partition("@")
    gone = publication.unload_served(_server(state), model, version)
    if as_json:
        print_json({"name": model, "unloaded": list(gone)})
    else:
        click.echo(f"Unloaded {', '.join(f'{model} {each}' for each in gone)}.")


def _server(state: Path) -> publication.Server:
    server = publication.Server.local(state)
    if server is None:
        raise FailedPrecondition("nothing is running; `ouzel up` starts the services")
    return server


@contextlib.contextmanager
def loading_shown() -> Iterator[Tell]:
    """Yields what prints a line to standard error for each model that is ready; on a terminal also what is loading."""
    live = sys.stderr.isatty()

    def tell(loading: Loading) -> None:
        place = f"{loading.number} of {loading.total}"
        name = f"{loading.model} {loading.version}"
        start = "\r\033[K" if live else ""  # over what was loading
        if loading.seconds is not None:
            click.echo(f"{start}{name} is ready ({place}, {loading.seconds:.1f} s)", err=True)
        elif live:
            click.echo(f"{start}Loading {name} ({place}) ...", err=True, nl=False)

    try:
        yield tell
    except BaseException:
        if live:
            click.echo("\r\033[K", err=True, nl=False)
        raise


def unloaded_said(unloaded: Sequence[tuple[str, str]]) -> str:
    """Which versions a start has left out, in one line."""
    named = ", ".join(f"{name}@{version}" for name, version in unloaded[:_NAMED])
    more = f" and {len(unloaded) - _NAMED} more" if len(unloaded) > _NAMED else ""
    return f"Not loaded: {named}{more}; `ouzel models load NAME@VERSION` loads one."
