"""`ouzel models`: make archives, and see what is in the store."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.cli._common import print_json
from ouzel.cli._common import store as store_option
from ouzel.cli._errors import Group
from ouzel.cli.trust import trust
from ouzel_protos.local import state_dir

if TYPE_CHECKING:  # torch takes seconds to import: commands do so when they run, so that --help is quick
    from ouzel.models import Preprocessing
    from ouzel.models.store import Details, Entry

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Group)
def models() -> None:
    """Make, list, show, promote and remove model archives. NAME@VERSION is a version, NAME the default one."""


@models.command()
@click.argument("name")
@click.option("--arch", required=True, help="torchvision:NAME or timm:NAME, such as timm:tf_efficientnet_lite0.")
@click.option("--weights", required=True, type=click.Path(path_type=Path), help=".safetensors, .pth or .pt file.")
@click.option("--labels", required=True, help="imagenet, or a text file with one label per line.")
@click.option(
    "--match",
    type=click.Choice(["name", "order"]),
    default="name",
    show_default=True,
    help="How tensors find their place; by order only if every shape agrees.",
)
@click.option("--version", default="1", show_default=True, help="Version of the model.")
@click.option("--channels", type=click.IntRange(1, 64), help="1: grey, 3: colour; models of others take tensors alone.")
@click.option("--input-size", type=int, nargs=2, metavar="H W", help="Pixels that the network sees.")
@click.option("--resize", type=int, help="Shorter side of the image before the centre is cropped.")
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]))
@click.option("--mean", help="Subtracted from values of 0 to 1: a number per channel, with commas.")
@click.option("--std", help="Divided by afterwards: a number per channel, with commas.")
@store_option
@_json
def add(
    *,
    name: str,
    arch: str,
    weights: Path,
    labels: str,
    match: str,
    version: str,
    store: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Make STORE/NAME.mar of an architecture, its weights and its labels.

    The options from --channels to --std change single values of the default preprocessing: what the architecture's
    library publishes, or with --match order the usual one for ImageNet.
    """
    from ouzel.models import archive
    from ouzel.models.store import ModelStore

    path = archive.create(
        name,
        arch,
        weights,
        labels,
        store,
        match=match,
        version=version,
        preprocessing=_preprocessing(arch, match, given),
    )
    (entry,) = ModelStore(store).versions(name)
    if as_json:
        print_json({"path": str(path), **asdict(entry)})
    else:
        click.echo(f"{path}: {entry.arch}, {entry.classes} classes, {_megabytes(entry.size)}, {entry.digest}")


@models.command("list")
@store_option
@_json
def list_(store: Path, as_json: bool) -> None:
    """The archives in the store, every version. A damaged one is listed with what is wrong with it."""
    from ouzel.models.store import ModelStore

    entries = ModelStore(store).list()
    if as_json:
        print_json([asdict(entry) for entry in entries])
    elif entries:
        _print_entries(entries)
    else:
        click.echo(f"No models in {store}.")


@models.command()
@click.argument("name")
@store_option
@_json
def show(name: str, store: Path, as_json: bool) -> None:
    """A model's architecture, preprocessing, labels and layers. Loads it, which checks all of it."""
    from ouzel.models.store import ModelStore

    details = ModelStore(store).show(name)
    if as_json:
        print_json({**asdict(details.entry), **details.card, "layers": [asdict(layer) for layer in details.layers]})
    else:
        _print_details(details)


@models.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
@_json
def remove(name: str, yes: bool, store: Path, as_json: bool) -> None:
    """Delete a model's archive."""
    from ouzel.models.store import ModelStore

    path = ModelStore(store).find(name)
    if not yes:
        click.confirm(f"Delete {path}?", abort=True, err=True)
    ModelStore(store).remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(f"Removed {name}.")


@models.command()
@click.argument("name")
@click.option("--version", required=True, help="The version that is to be the default.")
@store_option
@click.option(
    "--state",
    envvar="OUZEL_STATE",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="State folder of the services. [default: ~/.local/state/ouzel]",
)
@_json
def promote(name: str, version: str, store: Path, state: Path | None, as_json: bool) -> None:
    """Make a version of a model the one that callers get who name none, also in the services that run."""
    from ouzel.model_files import ModelFiles
    from ouzel.serving import publication

    server = publication.Server.local((state or state_dir()).expanduser().absolute())
    publication.promote_served(server, ModelFiles(store), name, version)
    if as_json:
        print_json({"name": name, "version": version})
    else:
        click.echo(f"{name} {version} is the default now.")


models.add_command(trust)


def _preprocessing(arch: str, match: str, given: dict[str, Any]) -> Preprocessing | None:
    """The default with the given values in place of its own; None (the default itself) if none is given."""
    from ouzel.models.archive import preprocessing_for

    values: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    if not values:
        return None
    for option in ("mean", "std"):
        if option in values:
            values[option] = _numbers(option, values[option])
    return preprocessing_for(arch, match).adapted(**values)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not numbers with commas between", param_hint=f"--{option}") from error


def _print_entries(entries: tuple[Entry, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "version", "default", "architecture", "classes", "size", "weights"):
        table.add_column(column, overflow="fold")  # a name that is cut off is of no use
    beside = Counter(entry.name for entry in entries)
    for entry in entries:
        if entry.error:
            table.add_row(entry.name, entry.version, "", "damaged", "", _megabytes(entry.size), "")
        else:
            default = "*" if entry.is_default and beside[entry.name] > 1 else ""
            facts = entry.arch, str(entry.classes), _megabytes(entry.size), entry.digest[:19]
            table.add_row(entry.name, entry.version, default, *facts)
    Console().print(table)
    for entry in entries:
        if entry.error:
            click.echo(f"{entry.name}: {entry.error}", err=True)


def _print_details(details: Details) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    entry, card = details.entry, details.card
    facts = Table.grid(padding=(0, 2))
    facts.add_column()
    facts.add_column(overflow="fold")
    facts.add_row("name", entry.name)
    facts.add_row("version", entry.version)
    facts.add_row("architecture", entry.arch)
    facts.add_row("weights", entry.digest)
    facts.add_row("size", _megabytes(entry.size))
    facts.add_row("labels", escape(f"{entry.classes}: {', '.join(card['labels'][:3])}, ..."))
    for name, value in card["preprocessing"].items():
        facts.add_row(name, escape(str(value)))
    layers = Table("layer", "type", "output", box=None, pad_edge=False)
    for layer in details.layers:
        layers.add_row(layer.name, layer.type, " x ".join(map(str, layer.shape or ())))
    console = Console()
    console.print(facts)
    console.print()
    console.print(layers)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
