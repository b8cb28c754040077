"""Values of a TOML table, each with its type; what is left over is a mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ouzel.checks import did_you_mean
from ouzel.errors import InvalidArgument

_D = TypeVar("_D", float, None)


class Table:
    """A table whose entries are taken one by one.

    Args:
        values: Of the table.
        path: Of the table in the file; empty for the outermost.

    Raises:
        InvalidArgument: From all methods: a value has another type. Values are not shown, as they may be secrets.
    """

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = dict(values)
        self._path = path
        self._known: list[str] = []

    def path(self, key: str) -> str:
        """The key with those of the tables around it."""
        return f"{self._path}.{key}" if self._path else key

    def take(self, key: str) -> Any:
        """The value of any type; None if there is none."""
        self._known.append(key)
        return self._values.pop(key, None)

    def text(self, key: str, default: str = "") -> str:
        """A string."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def needed(self, key: str, why: str) -> str:
        """A string that must be there; `why` is the end of the message if it is not."""
        if not (text := self.text(key)):
            raise InvalidArgument(f"{self.path(key)}: missing; {why}", field=self.path(key))
        return text

    def number(self, key: str, default: _D) -> float | _D:
        """A number."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        return float(value)

    def integer(self, key: str, default: int | None) -> int | None:
        """An integer."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "an integer")
        return value

    def flag(self, key: str) -> bool:
        """True or false, which is the default."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return bool(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """One number or a list of them; empty if there is none."""
        value = self.take(key)
        values = () if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in values):
            raise self._wrong(key, "a number or a list of numbers")
        return tuple(float(each) for each in values)

    def table(self, key: str) -> Table:
        """A table; empty if there is none."""
        return Table(self.mapping(key), self.path(key))

    def mapping(self, key: str) -> dict[str, Any]:
        """The values of a table as they are."""
        value = self.take(key)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, "a table")
        return value or {}

    def finish(self) -> None:
        """Refuses a key that nobody has taken."""
        for key in self._values:
            path, known = self.path(key), ", ".join(self._known)
            hint = did_you_mean(key, self._known)
            raise InvalidArgument(f"{path[:80]}: unknown; allowed are {known}{hint}", field=path)

    def _wrong(self, key: str, what: str) -> InvalidArgument:
        return InvalidArgument(f"{self.path(key)}: is not {what}", field=self.path(key))
