"""`ouzel models` of the worker's store: what callers may see and change. `ouzel tuned` is an older name of it.

Where the distribution `ouzel` is installed, `ouzel models` are its verbs for the store of this machine, which has more
of them; `ouzel models --worker` asks the worker there too.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ouzel_client._cli import plugins
from ouzel_client._cli.follow import client
from ouzel_client.terminal import (
    MODEL_COLUMNS,
    Column,
    confirm,
    file_size,
    in_a_line,
    json_option,
    model_cells,
    name_and_version,
    named_version,
    print_facts,
    print_json,
    print_table,
    yes_option,
)

if TYPE_CHECKING:
    from ouzel_client._types.models import StoredModel

_COLUMNS = (
    *MODEL_COLUMNS,
    Column("served"),
    Column("classes", right=True),
    Column("accuracy", right=True),
    Column("base", shrinks=1),
)
_model = click.argument("model", metavar="NAME[@VERSION]")
_version = click.option("--version", default="", help="The same as NAME@VERSION.")


class _Models(click.Group):
    """Hands over to the verbs for the store of this machine, where they are installed; not with --worker."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        stored = None if args[:1] == ["--worker"] else plugins.command("models")
        if stored is None:
            return super().make_context(info_name, args, parent, **extra)
        return stored.make_context(info_name, args, parent, **extra)


@click.group(cls=_Models)
@click.option("--worker", is_flag=True, expose_value=False, help="Ask the worker, as without the distribution ouzel.")
def models() -> None:
    """List, show, promote and delete the models of the worker's store.

    NAME@VERSION is a version of a model, NAME its default version.
    """


@models.command("list")
@click.argument("model", metavar="[NAME[@VERSION]]", default="")
@json_option
def list_models(model: str, as_json: bool) -> None:
    """List all models, or the versions of NAME."""
    with client() as ouzel:
        listed = ouzel.models.list(model)
    if as_json:
        print_json([_plain(each) for each in listed])
        return
    beside = Counter(each.name for each in listed)
    rows = (_row(each, beside[each.name] > 1) for each in listed)
    print_table(_COLUMNS, rows, empty=f"No model {model}." if model else "No models.")


@models.command()
@_model
@_version
@json_option
def show(model: str, version: str, as_json: bool) -> None:
    """Show labels, preprocessing, layers and lineage of a model.

    Without a version it is the default version.
    """
    name, version = name_and_version(model, version)
    with client() as ouzel:
        description = ouzel.models.describe(name, version)
    layers = {layer: list(shape) for layer, shape in description.layers.items()}
    if as_json:
        details = {
            "labels": list(description.labels),
            "preprocessing": dict(description.preprocessing),
            "layers": layers,
        }
        print_json(_plain(description.model) | details)
        return
    stored = description.model
    print_facts(
        {
            "name": stored.name,
            "version": f"{stored.version}{_standing(stored)}",
            "served": "yes" if stored.served else "no",
            "task": stored.task,
            "architecture": stored.arch,
            "weights": stored.digest,
            "size": file_size(stored.size),
            "labels": in_a_line(description.labels),
            **_flat("preprocessing", description.preprocessing),
            **_flat("lineage", stored.lineage),
        }
    )
    click.echo()
    columns = (Column("layer"), Column("output"))
    print_table(columns, ((name, " x ".join(map(str, shape))) for name, shape in layers.items()), empty="No layers.")


@models.command()
@_model
@_version
@json_option
def promote(model: str, version: str, as_json: bool) -> None:
    """Make a version of a model its default.

    Callers who name no version get it.
    """
    name, version = named_version(model, version)
    with client() as ouzel:
        promoted = ouzel.models.promote(name, version)
    print_json(_plain(promoted)) if as_json else click.echo(f"{name}: version {promoted.version} is the default")


@models.command()
@_model
@_version
@yes_option
@json_option
def delete(model: str, version: str, yes: bool, as_json: bool) -> None:
    """Delete one version of a model.

    The default version cannot be deleted while there are others.
    """
    name, version = named_version(model, version)
    with client() as ouzel:
        confirm(f"Delete the model {name}@{version}", yes)
        ouzel.models.delete(name, version)
    print_json({"deleted": f"{name}@{version}"}) if as_json else click.echo(f"{name}@{version} is deleted")


tuned = click.Group("tuned", commands=models.commands, help=models.help, hidden=True)


def _row(model: StoredModel, several: bool) -> tuple[object, ...]:
    lineage = model.lineage
    metrics = lineage.get("metrics", {})
    accuracy = f"{100 * metrics['accuracy']:.1f} %" if "accuracy" in metrics else ""
    base = f"{lineage['base']}@{lineage['base_version']}" if "base_version" in lineage else ""
    head = model_cells(model.name, model.version, model.is_default and several, held_back=model.held_back)
    return *head, "yes" if model.served else "", model.classes, accuracy, base


def _standing(model: StoredModel) -> str:
    if model.is_default:
        return " (default)"
    return " (held back by the gate)" if model.held_back else ""


def _flat(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """{"lineage.metrics.accuracy": 0.9} of what is nested."""
    flat: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        inner = f"{name}.{key}"
        flat |= _flat(inner, value) if isinstance(value, Mapping) else {inner: _short(value)}
    return flat


def _short(value: Any) -> str:
    """A value for people: JSON has floats only, and integers should look like integers."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_short, value))
    return f"{value:.6g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _plain(model: StoredModel) -> dict[str, Any]:
    values = {each.name: getattr(model, each.name) for each in dataclasses.fields(model)}
    return {"kind": "tuned" if model.lineage else "packed"} | values | {"lineage": dict(model.lineage)}
