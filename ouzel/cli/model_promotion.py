"""`ouzel models promote`: another default, in TorchServe beside the store or wherever agents follow it."""

from __future__ import annotations

from pathlib import Path

import click

from ouzel.cli._common import opened
from ouzel.cli._common import state as state_option
from ouzel.cli._common import store_place as store_option
from ouzel.cli._errors import Command
from ouzel.cli._recording import recording
from ouzel.model_files import ModelFiles
from ouzel.registry.opening import open_registry
from ouzel.torchserve import publication
from ouzel.torchserve.quorum import Agents, promote_on_agents
from ouzel.torchserve.server import Server
from ouzel_client.terminal import json_option, named_version, print_json
from ouzel_protos.local import state_dir


@click.command(cls=Command)
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--version", help="The same as NAME@VERSION.")
@click.option(
    "--quorum",
    type=click.IntRange(min=0),
    default=0,
    envvar="OUZEL_WORKER_SERVING_QUORUM",
    show_envvar=True,
    help="Serving agents that must serve the version before; 0 without agents.",
)
@click.option(
    "--patience", type=click.FloatRange(min=0), default=120.0, show_default=True, help="Seconds to wait for them."
)
@store_option
@state_option("State folder of the services.")
@json_option
def promote(
    name: str,
    *,
    version: str | None,
    quorum: int,
    patience: float,
    store: str | Path,
    state: Path | None,
    as_json: bool,
) -> None:
    """Make a version of a model its default.

    Callers who name no version get it, also from the running services, and wherever serving agents follow the store.
    """
    name, version = named_version(name, version)
    files = ModelFiles(*opened(store, state))
    with recording(state) as record:
        if not quorum:
            publication.promote_served(server_of(files, state), files, name, version, record=record)
        else:
            agents = Agents(open_registry(store), quorum)
            promote_on_agents(agents, files, name, version, seconds=patience, record=record)
    print_json({"name": name, "version": version}) if as_json else click.echo(
        f"{name}: version {version} is the default"
    )


def server_of(files: ModelFiles, state: Path | None) -> Server | None:
    """The TorchServe that runs, or None. One that serves a store in a bucket has an agent, which follows by itself."""
    if files.mirror is not None:
        return None
    return Server.local((state or state_dir()).expanduser().absolute())
