"""`ouzel models show`: one model, loaded and looked at."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.cli._common import opened
from ouzel.cli._common import store_place as store_option
from ouzel.cli._errors import Command
from ouzel_client.terminal import (
    Column,
    file_size,
    in_a_line,
    json_option,
    name_and_version,
    print_facts,
    print_json,
    print_table,
)

if TYPE_CHECKING:  # torch takes seconds to import
    from ouzel.models.store import Details


@click.command(cls=Command)
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--version", help="The same as NAME@VERSION.")
@store_option
@json_option
def show(name: str, version: str | None, store: str | Path, as_json: bool) -> None:
    """Show a model's architecture, preprocessing, labels and layers. Loads it, which checks all of it."""
    from ouzel.models.store import ModelStore

    details = ModelStore(*opened(store)).show("@".join(filter(None, name_and_version(name, version))))
    folding = _folding(details)
    if as_json:
        layers = [asdict(layer) for layer in details.layers]
        print_json({**asdict(details.entry), **details.card, "folding": folding, "layers": layers})
    else:
        _print_details(details, folding)


def _folding(details: Details) -> dict[str, Any]:
    """What becomes of the model's BatchNorms when it is prepared on this machine.

    folded: how many are folded into convolutions. given_up: why none is though they could be, else "".
    """
    import torch

    from ouzel import models
    from ouzel.saliency.engine.folding import fold

    example = torch.rand((1, *details.model.input_shape), generator=torch.Generator().manual_seed(0))
    folded = fold(models.own_copy(details.model.network), example)
    return {"folded": len(folded.affines), "given_up": folded.given_up}


def _print_details(details: Details, folding: dict[str, Any]) -> None:
    entry, card = details.entry, details.card
    print_facts(
        {
            "name": entry.name,
            "version": entry.version,
            "task": entry.task,
            "architecture": entry.arch,
            "weights": entry.digest,
            "size": file_size(entry.size),
            "labels": in_a_line(card["labels"]),
            "precision": card["precision"],
            "BatchNorms folded": f"none: {folding['given_up']}" if folding["given_up"] else folding["folded"],
            **card["preprocessing"],
        }
    )
    click.echo()
    columns = (Column("layer"), Column("type", shrinks=1), Column("output"))
    print_table(
        columns, ((layer.name, layer.type, " x ".join(map(str, layer.shape or ()))) for layer in details.layers)
    )
