"""Verbs that other distributions plug into the command `ouzel`.

A distribution adds a verb as an entry point of the group "ouzel.commands", and says in its package of verbs where the
verb belongs in `ouzel --help`: the package of `ouzel.cli.services:up` is `ouzel.cli`, whose `COMMANDS` holds
`"up": ("serve", "Start the services of this machine.")`. The module of a verb is loaded when the verb is run. A verb
without such a line is loaded for the list as well, which takes its line from the command.

The entry point "audit.sink" is the verb `ouzel audit sink`, below a verb of ours that is a `Verb`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

GROUP = "ouzel.commands"


def plugged() -> Mapping[str, EntryPoint]:
    """The verbs of all distributions that are installed, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def names() -> list[str]:
    """The names of these verbs: as their packages declare them, and then the others."""
    entries = plugged()
    packages = dict.fromkeys(map(_package, entries.values()))
    declared = dict.fromkeys(name for package in packages for name in _declared(package) if name in entries)
    return [*declared, *sorted(entries.keys() - declared.keys())]


def command(name: str) -> click.Command | None:
    """The verb of this name, or None if it is not installed.

    Raises:
        click.ClickException: It is broken.
    """
    entry = plugged().get(name)
    if entry is None:
        return None
    try:
        verb = entry.load()
    except Exception as error:  # a broken plug-in must not take the other verbs with it
        raise click.ClickException(f"{name}: {entry.value} cannot be loaded ({error})") from error
    if not isinstance(verb, click.Command):
        raise click.ClickException(f"{name}: {entry.value} is not a click command")
    return verb


def described(name: str) -> tuple[str, str] | None:
    """The section of a verb in `ouzel --help` and its line, or None if it is hidden."""
    if (declared := _declared(_package(plugged()[name])).get(name)) is not None:
        return declared if declared[0] else None
    try:
        verb = command(name)
    except click.ClickException as error:
        return "", error.message
    if verb is None or verb.hidden:
        return None
    return "", verb.get_short_help_str(limit=200)


def spoken(name: str) -> str:
    """The verb as it is typed: `audit sink` for the entry point "audit.sink"."""
    return name.replace(".", " ")


class Verb(click.Command):
    """A verb below which other distributions may plug in verbs: the first argument that is one of them calls it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of this verb, or of the one below it."""
        below = command(f"{self.name}.{args[0]}") if args and not args[0].startswith("-") else None
        if below is None:
            return super().make_context(info_name, args, parent, **extra)
        return below.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)


def _package(entry: EntryPoint) -> str:
    return entry.module.rpartition(".")[0]


def _declared(package: str) -> Mapping[str, tuple[str, str]]:
    """What a package says of its verbs; empty if it says nothing, or cannot be loaded."""
    try:
        commands: Mapping[str, tuple[str, str]] = import_module(package).COMMANDS
    except Exception:  # noqa: BLE001 - the call that loads the verb itself reports it
        return {}
    return commands
