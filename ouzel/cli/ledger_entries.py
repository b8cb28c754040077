"""`ouzel ledger replay` and `check`: one entry, and what it says."""

from __future__ import annotations

from pathlib import Path

import click

from ouzel.cli._common import store
from ouzel.cli._errors import Command
from ouzel.cli._ledger import Place, opened, place_options
from ouzel.errors import DataLoss
from ouzel_client.terminal import json_option, print_json
from ouzel_protos.local import state_dir

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("proof", type=_file)
@click.argument("entry", type=_file)
@click.option("--key", required=True, help="The log's verifier key, NAME+ID+KEY, of `ouzel ledger key`.")
@click.option("--image", type=_file, help="An image that the entry should be about.")
@click.option("--salt", type=_file, help="The entry's salt, in hex: needed to tell.")
@json_option
def check(proof: Path, entry: Path, *, key: str, image: Path | None, salt: Path | None, as_json: bool) -> None:
    """Check the PROOF of an ENTRY that came with an answer. Needs no log, no network and no trust in either.

    With --image and --salt it also tells whether the entry is about that image. Exit status 1 if anything is wrong.
    """
    from ouzel.ledger import VerifierKey, replay, verify_proof

    if (image is None) != (salt is None):
        raise click.UsageError("--image and --salt: give both or neither")
    content = entry.read_bytes()
    found, checkpoint = verify_proof(
        proof.read_text(encoding="utf-8", errors="replace"), content, VerifierKey.parse(key)
    )
    if image is not None and salt is not None:
        replay(content, _salt(salt), image.read_bytes())
    if as_json:
        print_json({"index": found.index, "origin": checkpoint.origin, "entries": checkpoint.size})
        return
    click.echo(f"Entry {found.index} of {checkpoint.origin} is proven by a checkpoint of {checkpoint.size} entries.")
    if image is not None:
        click.echo(f"It is about {image}.")


def _salt(file: Path) -> bytes:
    try:
        return bytes.fromhex(file.read_text(encoding="utf-8").strip())
    except ValueError as error:
        raise DataLoss(f"salt: {file} does not hold hexadecimal digits") from error


@click.command(cls=Command)
@place_options
@click.argument("index", type=click.IntRange(0, 2**63 - 1))
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The image (or the serialised tensor), as it was sent.",
)
@click.option(
    "--mask", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The mask that the audit was given."
)
@click.option("--owner", default="local", show_default=True, help="Whose data set the audit drew from.")
@store
@json_option
def replay(place: Place, index: int, *, image: Path, mask: Path | None, owner: str, store: Path, as_json: bool) -> None:
    """Compute an entry again from its image, and compare. Exit status 1 if something came out otherwise.

    Figures may differ by a thousandth, those of maps by 2 in a hundred: another processor rounds otherwise.
    """
    from ouzel.cli._replay import computed_again, differences
    from ouzel.ledger import replay

    with opened(place) as log:
        record = log.entry(index)
    if record.body is None:
        raise click.ClickException(f"the body of entry {index} is pruned")
    content = image.read_bytes()
    asked = replay(record.body, record.salt, content)
    state = click.get_current_context().params["state"] or state_dir()
    again = computed_again(asked, content, store, state=state.expanduser().absolute(), mask=mask, owner=owner)
    found = list(differences(asked.facts, again))
    if as_json:
        print_json({"kind": asked.kind, "time": asked.time, "same": not found, "differences": [vars(d) for d in found]})
    else:
        for each in found:
            click.echo(f"OTHERWISE {each.path}: recorded {each.recorded!r:.100}, now {each.computed!r:.100}", err=True)
        if not found:
            click.echo(f"Entry {index}, {asked.kind} of {asked.time}: the same comes out again.")
    if found:
        raise SystemExit(1)
