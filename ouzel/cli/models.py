"""`ouzel models`: the models of the store on this machine, packed by hand or tuned by jobs alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.cli._common import opened
from ouzel.cli._common import state as state_option
from ouzel.cli._common import store_place as store_option
from ouzel.cli._errors import Group
from ouzel.cli._recording import recording
from ouzel.cli.model_details import show
from ouzel.cli.model_loading import load, unload
from ouzel.cli.model_promotion import promote, server_of
from ouzel.cli.trust import trust
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.precision_names import EXACT, PRECISIONS, Precision
from ouzel.task_names import TASKS, Task
from ouzel.torchserve import publication
from ouzel_client.terminal import (
    MODEL_COLUMNS,
    Column,
    confirm,
    file_size,
    json_option,
    model_cells,
    name_and_version,
    print_json,
    print_table,
    yes_option,
)

if TYPE_CHECKING:  # torch takes seconds to import: commands do so when they run, and only those that need it
    from ouzel.models import Preprocessing

_name = click.argument("name", metavar="NAME[@VERSION]")
_version = click.option("--version", help="The same as NAME@VERSION.")
_state = state_option("State folder of the services.")
_COLUMNS = (
    *MODEL_COLUMNS,
    Column("architecture", shrinks=2),
    Column("classes", right=True),
    Column("size", right=True),
    Column("weights", shrinks=1, cut=True),
    Column("base", shrinks=3),
)


@click.group(cls=Group)
def models() -> None:
    """Add, list, show, promote and delete the models of the store on this machine.

    NAME@VERSION is a version of a model, NAME its default version. `ouzel models --worker` lists, shows, promotes and
    deletes those of the worker's store.
    """


@models.command()
@_name
@click.option("--arch", required=True, help="torchvision:NAME, timm:NAME, unet:timm:NAME or ssdlite:timm:NAME.")
@click.option(
    "--weights",
    required=True,
    type=click.Path(path_type=Path),
    help="A state dict or checkpoint: .safetensors, .pth, .pt, .ckpt or .bin.",
)
@click.option(
    "--labels",
    required=True,
    help="imagenet, voc, coco, a text file with one label per line, or TorchServe's index_to_name.json.",
)
@click.option(
    "--match",
    type=click.Choice(["name", "order"]),
    default="name",
    show_default=True,
    help="How tensors find their place; by order only if every shape agrees.",
)
@click.option("--version", help="The same as NAME@VERSION. [default: 1]")
@click.option("--channels", type=click.IntRange(1, 64), help="1: grey, 3: colour; models of others take tensors alone.")
@click.option("--input-size", type=int, nargs=2, metavar="H W", help="Pixels that the network sees.")
@click.option("--resize", type=int, help="Shorter side of the image before the centre is cropped.")
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]))
@click.option("--mean", help="Subtracted from values of 0 to 1: a number per channel, with commas.")
@click.option("--std", help="Divided by afterwards: a number per channel, with commas.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=EXACT,
    show_default=True,
    help="What the model is served in. tf32 and bf16 are faster on a GPU, and their answers deviate.",
)
@click.option("--task", type=click.Choice(TASKS), help="What the model is for. [default: what the architecture is for]")
@store_option
@json_option
def add(
    *,
    name: str,
    arch: str,
    weights: Path,
    labels: str,
    match: str,
    version: str | None,
    precision: Precision,
    task: Task | None,
    store: str | Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Add a model to the store: STORE/NAME.mar.

    It is made of an architecture, its weights and its labels.
    The options from --channels to --std change single values of the default preprocessing: what the architecture's
    library publishes.
    """
    from ouzel.models import archive

    name, version = name_and_version(name, version)
    version = version or "1"
    files = ModelFiles(*opened(store))
    archive.check_untuned(name, files)

    def write(path: Path) -> None:
        archive.create(
            name,
            arch,
            weights,
            labels,
            path.parent,
            match=match,
            version=version,
            precision=precision,
            task=task,
            preprocessing=_preprocessing(arch, weights, given),
        )

    path = files.add(name, version, write, plain=True)
    (made,) = (file for file in files.of(name) if file.path == path)
    if as_json:
        print_json({"path": str(path), **_plain(made, files)})
    else:
        where = path if files.mirror is None else f"{path.name} in {files.where}"
        click.echo(f"{where}: {made.arch}, {made.classes} classes, {file_size(made.size)}, {made.digest}")
    if doubt := _doubt(arch, weights, match, given):
        click.echo(doubt, err=True)


@models.command("list")
@click.argument("name", metavar="[NAME[@VERSION]]", default="")
@store_option
@json_option
def list_(name: str, store: str | Path, as_json: bool) -> None:
    """List every version of every model, or of NAME. A damaged archive is listed with what is wrong with it."""
    files = ModelFiles(*opened(store))
    matches = files.all()
    if name:
        model, version = name_and_version(name)
        matches = tuple(file for file in matches if file.name == model and version in ("", file.version))
    if as_json:
        print_json([_plain(file, files) for file in matches])
        return
    beside = Counter(file.name for file in matches)
    rows = (_row(file, files, beside[file.name] > 1) for file in matches)
    print_table(_COLUMNS, rows, empty=f"No model {name} in {store}." if name else f"No models in {store}.")
    for file in matches:
        if file.error:
            click.echo(f"{file.name}: {file.error}", err=True)


@models.command()
@_name
@_version
@yes_option
@store_option
@_state
@json_option
def delete(name: str, *, version: str | None, yes: bool, store: str | Path, state: Path | None, as_json: bool) -> None:
    """Delete a model's archive.

    Of several versions it deletes the one that is named. Running services stop serving it.
    """
    name = "@".join(filter(None, name_and_version(name, version)))
    _delete(name, yes, store, state)
    print_json({"deleted": name}) if as_json else click.echo(f"{name} is deleted")


@models.command(hidden=True)
@_name
@yes_option
@store_option
@_state
@json_option
def remove(name: str, yes: bool, store: str | Path, state: Path | None, as_json: bool) -> None:
    """An older name of `delete`."""
    _delete(name, yes, store, state)
    print_json({"removed": name}) if as_json else click.echo(f"Removed {name}.")


models.add_command(show)
models.add_command(promote)
models.add_command(trust)
models.add_command(load)
models.add_command(unload)


def _delete(name: str, yes: bool, store: str | Path, state: Path | None) -> None:
    files = ModelFiles(*opened(store, state))
    file = files.only(name)
    what = str(file.path) if files.mirror is None else f"{file.path.name} of {files.where}"
    confirm(f"Delete {what} ({file_size(file.size)})", yes)
    with recording(state) as record:
        publication.withdraw_served(server_of(files, state), files, file, record=record)


def _preprocessing(arch: str, weights: Path, given: dict[str, Any]) -> Preprocessing | None:
    """The default with the given values in place of its own; None (the default itself) without such values."""
    from ouzel.models import default_preprocessing

    values: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    if not values:
        return None
    for option in ("mean", "std"):
        if option in values:
            values[option] = _numbers(option, values[option])
    return default_preprocessing(arch, weights).adapted(**values)


def _doubt(arch: str, weights: Path, match: str, given: dict[str, Any]) -> str:
    """What is not known of how the weights were trained, where nobody has said it."""
    from ouzel.models import default_preprocessing, doubts

    notes = []
    if not (given["input_size"] or given["resize"] or given["interpolation"]) and (doubt := doubts(arch, weights)):
        notes.append(f"Note: {doubt}")
    if match == "order" and not (given["mean"] and given["std"]):
        fed = _preprocessing(arch, weights, given) or default_preprocessing(arch, weights)
        mean, std = (",".join(f"{value:g}" for value in values) for values in (fed.mean, fed.std))
        notes.append(
            f"Note: weights that fit by order are fed as the library feeds its own of {arch}: --mean {mean} "
            f"--std {std} --interpolation {fed.interpolation}. If yours were trained with other values, say "
            "so with these options."
        )
    return "\n".join(notes)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not numbers with commas between", param_hint=f"--{option}") from error


def _row(file: ModelFile, files: ModelFiles, several: bool) -> tuple[object, ...]:
    if file.error:
        return *model_cells(file.name, file.version, False), "damaged", "", file_size(file.size), "", ""
    is_default = files.default_of(files.of(file.name)) == file
    head = model_cells(file.name, file.version, several and is_default, held_back=file.held_back and not is_default)
    base = str((file.lineage or {}).get("base", ""))
    return *head, file.arch, file.classes, file_size(file.size), file.digest[:19], base


def _plain(file: ModelFile, files: ModelFiles) -> dict[str, Any]:
    """For programs. kind: "packed" by `ouzel models add`, or "tuned" by a job."""
    values = asdict(file)
    del values["path"]
    default = files.default_of(files.of(file.name)) == file
    return {"kind": "packed" if file.lineage is None else "tuned", **values, "is_default": default}
