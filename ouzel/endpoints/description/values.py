"""Values of the operator's file that are more than a text or a number: sizes, labels, secrets. No torch."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from ouzel.endpoints.description.secrets import Secret
from ouzel.endpoints.description.table import Table
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel_protos.text import nfc

_MOST_BYTES = 16 * 2**20  # of the file, and of a file of labels
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def size_of(table: Table) -> tuple[int, int] | None:
    """The size of the pictures that are sent; None for "image". Raises InvalidArgument."""
    match table.take("size"):
        case "image":
            return None
        case [int() as height, int() as width] if not isinstance(height, bool) and not isinstance(width, bool):
            return height, width
        case None:
            raise InvalidArgument(
                'size: missing; state the [height, width] of the picture in pixels, or "image" for a service that '
                "takes images of any size",
                field="size",
            )
    raise InvalidArgument('size: is neither [height, width] in pixels nor "image"', field="size")


def headers_of(table: Table, folder: Path) -> tuple[tuple[str, Secret], ...]:
    """The headers, with that of `bearer_token`. Raises InvalidArgument."""
    token = table.take("bearer_token")
    headers = [(key, secret_of(value, f"headers.{key}", folder)) for key, value in table.mapping("headers").items()]
    if token is not None:
        headers.append(("Authorization", secret_of(token, "bearer_token", folder, prefix="Bearer ")))
    return tuple(headers)


def secret_of(value: object, where: str, folder: Path, prefix: str = "") -> Secret:
    """A value, or {env = "NAME"} or {file = "PATH"} with an optional prefix; it must be there already.

    Args:
        value: As TOML has it.
        where: The field, for the message.
        folder: To which a path is relative.
        prefix: Where the value states none.

    Raises:
        InvalidArgument: It is none of these, or nothing is there.
    """
    match value:
        case str():
            secret = Secret(literal=value, prefix=prefix)
        case {"env": str(name), **rest} if _VARIABLE.fullmatch(name):
            secret = Secret(env=name, prefix=_prefix(rest, where, prefix))
        case {"file": str(path), **rest} if path:
            secret = Secret(file=folder / path, prefix=_prefix(rest, where, prefix))
        case _:
            raise InvalidArgument(f'{where}: is not a string, {{ env = "NAME" }} or {{ file = "PATH" }}', field=where)
    try:
        secret.reveal()
    except FailedPrecondition as error:
        raise InvalidArgument(f"{where}: {error}", field=where) from None
    return secret


def _prefix(rest: dict[Any, Any], where: str, usual: str) -> str:
    prefix = rest.pop("prefix", usual)
    if rest or not isinstance(prefix, str):
        raise InvalidArgument(f"{where}: has one of env and file, and a prefix at most", field=where)
    return prefix


def labels_of(table: Table, folder: Path) -> tuple[str, ...]:
    """The labels of a list, or of a file: one label per line, or a JSON list. Raises InvalidArgument or NotFound."""
    value = table.take("labels")
    if isinstance(value, str) and value:
        path = folder / value
        text = text_of(path, "labels")
        try:
            value = json.loads(text) if path.suffix.lower() == ".json" else [line.strip() for line in _lines(text)]
        except (ValueError, RecursionError):
            raise InvalidArgument(f"labels: {path} is not JSON", field="labels") from None
    if value is None:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(label, str) for label in value):
        raise InvalidArgument("labels: is not a list of strings, or a file with one", field="labels")
    return tuple(nfc(label) for label in value)


def _lines(text: str) -> list[str]:
    return text.rstrip().split("\n")


def toml_of(text: str, where: str) -> dict[str, Any]:
    """The tables of a file. Raises InvalidArgument, which shows the place and not the text: that may be a secret."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        place = re.search(r"\(at [^()]*\)\Z", str(error))
        raise InvalidArgument(f"{where}: is not TOML {place[0] if place else ''}".rstrip(), field=where) from None


def text_of(path: Path, where: str) -> str:
    """The text of a file. Raises InvalidArgument or NotFound, with `where` as the field."""
    if not path.is_file():
        raise NotFound(f"{where}: {path} is not a file", field=where)
    with path.open("rb") as file:
        raw = file.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise InvalidArgument(f"{where}: {path} has more than {_MOST_BYTES} bytes", field=where)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{where}: {path} is not UTF-8 text", field=where) from None
