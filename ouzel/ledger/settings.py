"""Where the log of a site is: one folder that the worker, the model processes and the command line agree on.

The folder holds `ledger.json`, which names the database, the published files, the key and the log's name. The first who
needs the log writes it; the others read it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ouzel.databases.urls import is_postgres, sqlite_file, without_password
from ouzel.durable_files import written
from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument
from ouzel.ledger.opening import LedgerOptions
from ouzel.ledger.published.places import open_storage
from ouzel.ledger_folder import FILE, known

_NAMES = ("database", "tiles", "key", "origin")


def settings(folder: Path, *, database: str = "", tiles: str = "", key: str = "", origin: str = "") -> LedgerOptions:
    """The places of the log of a folder.

    Args:
        folder: The folder. It is made if it is missing.
        database: "sqlite:///PATH" or "postgresql://..."; "" is what the folder says, or `ledger.db` in a new one.
        tiles: A folder, or "s3://BUCKET/PREFIX"; "" is what the folder says, or `tiles` in a new one.
        key: File of the private key; "" is what the folder says, or `key` in a new one.
        origin: The log's name, for ever; "" is what the folder says, or a random one.

    Returns:
        The options. Those of a new log are kept in the folder for the other processes.

    Raises:
        DataLoss: `ledger.json` cannot be read.
        FailedPrecondition: Another place is given than the one where the log is.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = {
        name: value
        for name, value in {"database": database, "tiles": tiles, "key": key, "origin": origin}.items()
        if value
    }
    file = folder / FILE
    if not file.exists():
        new = _usual(folder) | {"origin": f"ouzel.local/{secrets.token_hex(8)}"} | given
        _check_new(new)
        with suppress(FileExistsError), written(file, replace=False, mode=0o600) as temporary:
            temporary.write_text(json.dumps(new, indent=2), encoding="utf-8")
    values = _read(file)
    for name, value in given.items():
        there, asked = (without_password(each) if name == "database" else each for each in (values[name], value))
        if there != asked:
            raise FailedPrecondition(
                f"ledger: its {name} is {there}, not {asked}; a log that moves could have two histories. Change "
                f"{file} by hand if all of it has moved",
                field=f"ledger_{name}",
            )
    if given.get("database", values["database"]) != values["database"]:  # another password
        values["database"] = given["database"]
        with written(file, mode=0o600) as temporary:
            temporary.write_text(json.dumps(values, indent=2), encoding="utf-8")
    return _options(values)


def existing(folder: Path) -> LedgerOptions:
    """The places of the log of a folder, which is left as it is: the usual places if it says nothing."""
    return _options(_read(folder / FILE) if known(folder) else _usual(folder))


def _usual(folder: Path) -> dict[str, str]:
    """The places of a log of which nothing else is said."""
    places = {"database": f"sqlite://{folder / 'ledger.db'}", "tiles": folder / "tiles", "key": folder / "key"}
    return {name: str(place) for name, place in places.items()} | {"origin": ""}


def _options(values: Mapping[str, str]) -> LedgerOptions:
    return LedgerOptions(values["database"], values["tiles"], Path(values["key"]), values["origin"])


def _check_new(values: Mapping[str, str]) -> None:
    """Refuses places that no log can have, before anything is written."""
    if not is_postgres(values["database"]):
        sqlite_file(values["database"], "ledger_database")
    open_storage(values["tiles"])
    if "://" not in values["tiles"]:
        try:
            Path(values["tiles"]).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgument(
                f"ledger_tiles: {values['tiles']} cannot be made ({error.strerror})", field="ledger_tiles"
            ) from error


def _read(file: Path) -> dict[str, str]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(values[name], str) for name in _NAMES):
            raise TypeError
        return {name: values[name] for name in _NAMES}
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(
            f"{file} does not say where the ledger is: it is not a JSON object with database, tiles, key and origin; "
            "restore it from a backup"
        ) from error
