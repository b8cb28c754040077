"""`ouzel ledger`: the tamper-evident log of this machine, or the published files of any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ouzel.cli._errors import Group
from ouzel.cli._ledger import Place, as_values, opened, place_options, verified_key
from ouzel.cli.ledger_entries import check, replay
from ouzel.errors import NotFound
from ouzel_client.terminal import confirm, json_option, print_facts, print_json, yes_option

if TYPE_CHECKING:
    from ouzel.ledger import Ledger, Record

_index = click.argument("index", type=click.IntRange(0, 2**63 - 1))
_PART = 500  # entries per reading


@click.group(cls=Group)
def ledger() -> None:
    """Verify, prove and export what the tamper-evident log says.

    INDEX is the place of an entry in the log, from 0.
    """


@ledger.command()
@place_options
@click.option(
    "--since", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A checkpoint that was saved earlier."
)
@click.option(
    "--key", help="The log's verifier key, NAME+ID+KEY. [default: the one in the database, else the file vkey]"
)
@json_option
def verify(place: Place, since: Path | None, key: str | None, as_json: bool) -> None:
    """Compute everything again from the published entries. Exit status 1 if anything is wrong.

    The database is compared too, if it is of the same log. With --since, the log must have grown from that checkpoint.
    """
    from ouzel.ledger import Problem, compare, open_storage, verify

    storage = open_storage(place.tiles)
    with place.database_or_none() as database:
        if database is None and storage.read("checkpoint") is None and since is None and key is None:
            raise NotFound(f"there is no ledger in {place.tiles}")
        chosen, own, note = verified_key(key, place, database, storage)
        result = verify(storage, chosen, since=since.read_bytes() if since else None)
        problems = [*result.problems, *(compare(database, result) if database is not None and own else ())]
    if database is None and place.known:
        problems.append(Problem(None, "database", f"is missing: {place.database}; the files alone were computed again"))
    notes = [*result.notes, *([note] if note else [])]
    size = result.checkpoint.size if result.checkpoint else None
    if as_json:
        print_json(
            {
                "ok": not problems,
                "origin": chosen.name,
                "entries": size,
                "pruned_before": result.pruned,
                "compared_with_database": own,
                "problems": [{"entry": each.index, "path": each.path, "problem": each.what} for each in problems],
                "notes": notes,
            }
        )
    else:
        for text in notes:
            click.echo(text)
        if result.pruned:
            click.echo(f"The bodies of the entries 0 to {result.pruned - 1} are pruned; their hashes are there.")
        for problem in problems:
            click.echo(f"WRONG {problem}", err=True)
        if not problems:
            click.echo(
                f"{chosen.name}: {size} entries are as they were published." + (" So is the database." if own else "")
            )
    if problems:
        raise SystemExit(1)


@ledger.command()
@place_options
@_index
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="A file, for example entry.tlog-proof."
)
def prove(place: Place, index: int, output: Path | None) -> None:
    """Print a proof that an entry is in the log (c2sp.org/tlog-proof@v1)."""
    with opened(place) as log:
        text = log.prove(index)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@ledger.command()
@place_options
@_index
@click.option("--salt", is_flag=True, help="Show the salt too. Who has it can check guesses of the salted hashes.")
@click.option("--raw", is_flag=True, help="Print the entry's bytes and nothing else: what proofs are checked with.")
@json_option
def show(place: Place, index: int, salt: bool, raw: bool, as_json: bool) -> None:
    """Show an entry."""
    with opened(place) as log:
        record = log.entry(index)
    if raw:
        if record.body is None:
            raise click.ClickException(f"the body of entry {index} is pruned")
        click.echo(record.body, nl=False)
        return
    values = as_values(record)
    if salt:
        values["salt"] = record.salt.hex() if record.salt is not None else None
    if as_json:
        print_json(values)
    else:
        print_facts({name: json.dumps(v) if isinstance(v, dict) else v for name, v in values.items()})


@ledger.command()
@place_options
@click.option("--from", "start", type=click.IntRange(0, 2**62), default=0, show_default=True, help="First index.")
@click.option("--to", "end", type=click.IntRange(0, 2**62), help="Last index. [default: the newest]")
@click.option("--kind", default="", help="Entries of one kind only.")
@click.option("--owner", default="", help="Entries of one caller only, as far as their salts are there.")
def export(place: Place, start: int, end: int | None, kind: str, owner: str) -> None:
    """Print entries, a line of JSON each, without salts."""
    from ouzel.checks import one_of
    from ouzel.ledger import KINDS

    if kind:
        one_of("kind", kind, KINDS)
    with opened(place) as log:
        last = log.size() if end is None else end + 1
        for record in log.search("owner", owner) if owner else _all(log, start, last, kind):
            if start <= (record.index or 0) < last and kind in ("", record.kind):
                click.echo(json.dumps(as_values(record), ensure_ascii=False, sort_keys=True))


def _all(log: Ledger, start: int, end: int, kind: str) -> Iterator[Record]:
    while rows := log.entries(start, end, kind=kind, limit=_PART):
        yield from rows
        start = (rows[-1].index or 0) + 1


@ledger.command()
@place_options
def key(place: Place) -> None:
    """Print the log's verifier key. Give it to those who verify, on another way than the published files."""
    with opened(place) as log:
        click.echo(str(log.key))


@ledger.command()
@place_options
def checkpoint(place: Place) -> None:
    """Publish, and print the checkpoint: keep it elsewhere, for `verify --since`."""
    with opened(place) as log:
        click.echo(log.publish()[1].decode(), nl=False)


@ledger.command()
@place_options
@_index
@yes_option
def forget(place: Place, index: int, yes: bool) -> None:
    """Delete the salt of an entry: its salted hashes can never be guessed again. An entry says so."""
    confirm(f"Delete the salt of entry {index} for ever", yes)
    with opened(place, publish=True) as log:
        log.forget(index)
    click.echo(f"the salt of entry {index} is deleted")


@ledger.command()
@place_options
@click.option("--older-than", "days", type=click.IntRange(1, 36_500), default=365, show_default=True, help="Days.")
@yes_option
def prune(place: Place, days: int, yes: bool) -> None:
    """Delete the bodies and salts of old entries, in bundles of 256. Their hashes stay, and proofs hold.

    An entry says so. Laws ask for some logs to be kept: see docs/ledger.md.
    """
    confirm(f"Delete the bodies of entries that are older than {days} days for ever", yes)
    with opened(place, publish=True) as log:
        end = log.prune(timedelta(days=days))
    click.echo(f"the bodies of the entries before {end} are deleted" if end else "nothing is old enough")


@ledger.command()
@place_options
@click.argument("url")
@click.option("--key", required=True, help="The witness's verifier key, NAME+ID+KEY, of type 4.")
def witness(place: Place, url: str, key: str) -> None:
    """Have a witness cosign the checkpoint (c2sp.org/tlog-witness). Proofs of it then hold the cosignature."""
    from ouzel.ledger import VerifierKey, witness

    with opened(place) as log:
        signature = witness(log, url, VerifierKey.parse(key))
    click.echo(f"{signature.name} has cosigned the checkpoint")


ledger.add_command(replay)
ledger.add_command(check)
