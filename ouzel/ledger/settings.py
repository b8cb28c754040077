"""Where the log of a site is: one folder that the worker, the model processes and the command line agree on.

The folder holds `ledger.json`, which names the database, the published files, the key and the log's name. The first who
needs the log writes it; the others read it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ouzel.durable_files import written
from ouzel.errors import DataLoss
from ouzel.ledger.opening import LedgerOptions
from ouzel_protos.local import state_dir

VARIABLE = "OUZEL_LEDGER"  # names the folder to the processes of models
FOLDER = "ledger"  # in a state folder
_FILE = "ledger.json"


def settings(folder: Path, *, database: str = "", tiles: str = "", key: str = "", origin: str = "") -> LedgerOptions:
    """The places of the log of a folder.

    Args:
        folder: The folder. It is made if it is missing.
        database: "sqlite:///PATH" or "postgresql://..."; "" is what the folder says, or `ledger.db` in a new one.
        tiles: A folder, or "s3://BUCKET/PREFIX"; "" is what the folder says, or `tiles` in a new one.
        key: File of the private key; "" is what the folder says, or `key` in a new one.
        origin: The log's name, for ever; "" is what the folder says, or the name of this machine and a random number.

    Returns:
        The options. What is given is kept in the folder for the other processes.

    Raises:
        DataLoss: `ledger.json` cannot be read.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = {"database": database, "tiles": tiles, "key": key, "origin": origin}
    usual = {
        "database": f"sqlite://{folder / 'ledger.db'}",
        "tiles": str(folder / "tiles"),
        "key": str(folder / "key"),
        "origin": f"ouzel.{socket.gethostname() or 'local'}/{secrets.token_hex(4)}".lower(),
    }
    file = folder / _FILE
    if not file.exists():
        with suppress(FileExistsError):
            _write(file, usual | {name: value for name, value in given.items() if value}, replace_it=False)
    before = _read(file)
    wanted = before | {name: value for name, value in given.items() if value}
    if wanted != before:
        _write(file, wanted, replace_it=True)
    return LedgerOptions(wanted["database"], wanted["tiles"], Path(wanted["key"]), wanted["origin"])


def folder_of(state: Path | None) -> Path:
    """The folder of the log: what $OUZEL_LEDGER says, else in the state folder (None is the usual one)."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    return (state or state_dir()).expanduser().absolute() / FOLDER


def known(folder: Path) -> bool:
    """Whether the folder says where its log is."""
    return (folder / _FILE).exists()


def existing(folder: Path) -> LedgerOptions:
    """The places of the log of a folder, which is left as it is: the usual places if it says nothing."""
    if known(folder):
        values = _read(folder / _FILE)
        return LedgerOptions(values["database"], values["tiles"], Path(values["key"]), values["origin"])
    return LedgerOptions(f"sqlite://{folder / 'ledger.db'}", str(folder / "tiles"), folder / "key", "")


def quiet(options: LedgerOptions) -> LedgerOptions:
    """The options of a process that publishes only what it proves, and leaves the rest to others."""
    return replace(options, publish_every=0.0)


def _write(file: Path, values: dict[str, str], *, replace_it: bool) -> None:
    with written(file, replace=replace_it, mode=0o600) as temporary:
        temporary.write_text(json.dumps(values, indent=2), encoding="utf-8")


def _read(file: Path) -> dict[str, str]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return {name: str(values[name]) for name in ("database", "tiles", "key", "origin")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"{file} does not say where the ledger is ({error}); restore it from a backup") from error
