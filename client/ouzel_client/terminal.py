"""What the verbs of the command `ouzel` look like, for those of this package and for those that others plug in.

One style of table, one way to write times and sizes, one question before something is removed. Needs the extra "cli".
Imports are light: rich is loaded when something is drawn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from ouzel_client._display.progress import stages
from ouzel_protos.text import is_line

__all__ = [
    "MODEL_COLUMNS",
    "Column",
    "age",
    "confirm",
    "duration",
    "file_size",
    "in_a_line",
    "json_option",
    "local_time",
    "model_cells",
    "name_and_version",
    "named_version",
    "plain",
    "print_facts",
    "print_json",
    "print_table",
    "shown",
    "stages",
    "yes_option",
]

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask. Needed where there is no terminal.")

_GAP = 2  # spaces between columns
_LEGIBLE = 16  # of a text that is cut
_NARROWEST = 8  # to which a column shrinks before the next one does
_STYLES = {"SUCCEEDED": "green", "FAILED": "red", "CANCELLED": "yellow", "RUNNING": "cyan", "damaged": "red"}


@dataclass(frozen=True)
class Column:
    """right: numbers. shrinks: where the terminal is too narrow, columns shrink in this order, 1 first; 0 comes last.

    cut: what does not fit ends with an ellipsis, instead of going on in the next line; the whole column is left out
    where that would leave next to nothing of it.
    """

    title: str
    right: bool = False
    shrinks: int = 0
    cut: bool = False


# Every table of models begins with these.
MODEL_COLUMNS = (Column("model"), Column("version"), Column("default"))


def model_cells(name: str, version: str, is_default: bool) -> tuple[str, str, str]:
    """The cells of `MODEL_COLUMNS`."""
    return name, version, "yes" if is_default else ""


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], empty: str = "") -> None:
    """A table on stdout: as wide as the terminal allows, and one line for each row where stdout is no terminal.

    Args:
        columns: Their titles and what happens to them in a narrow terminal. Those without any content are left out.
        rows: A cell for each column.
        empty: What is said instead if there are no rows.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    used = [number for number in range(len(columns)) if any(row[number] for row in cells)]
    columns = [columns[number] for number in used]
    cells = [[row[number] for number in used] for row in cells]
    natural = [
        max(cell_len(text) for text in (column.title, *(row[number] for row in cells)))
        for number, column in enumerate(columns)
    ]
    console = Console()
    widths = fitted(natural, columns, console.width) if console.is_terminal else natural
    kept = [
        number
        for number, width in enumerate(widths)
        if not columns[number].cut or width >= min(_LEGIBLE, natural[number])
    ]
    if len(kept) < len(columns):
        columns = [columns[number] for number in kept]
        cells = [[row[number] for number in kept] for row in cells]
        widths = fitted([natural[number] for number in kept], columns, console.width)
    console = Console(width=max(console.width, sum(widths) + _GAP * len(widths)))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), collapse_padding=True)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            Text(column.title),
            width=width,
            justify="right" if column.right else "left",
            overflow="ellipsis" if column.cut else "fold",
            no_wrap=column.cut,
        )
    for row in cells:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))
    console.print(table)


def fitted(natural: Sequence[int], columns: Sequence[Column], width: int) -> list[int]:
    """Widths of the columns of a table that is no wider than `width`, as far as that can be."""
    widths = list(natural)
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    order = sorted(
        range(len(widths)), key=lambda number: (columns[number].shrinks or len(columns) + 1, -widths[number])
    )
    for number in order:
        given = min(max(excess, 0), max(widths[number] - max(_NARROWEST, len(columns[number].title)), 0))
        widths[number] -= given
        excess -= given
    return widths


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one a line, on stdout; a value that is empty is left out."""
    shown = {name: plain(value) for name, value in facts.items() if value not in ("", None)}
    widest = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{widest}}  {value}")


def print_json(value: Any) -> None:
    """For programs to read, on stdout. Times are written as ISO 8601."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable))


def confirm(deed: str, yes: bool) -> None:
    """Ask before something is removed for good: confirm("Delete the model pets@2", yes).

    Raises:
        click.Abort: The answer is no: exit status 1.
        click.UsageError: Nobody can be asked: exit status 2.
    """
    if yes:
        return
    if not can_ask():
        raise click.UsageError(f"{deed}? There is no terminal to ask on: give --yes")
    click.confirm(f"{deed}? This cannot be undone.", abort=True, err=True)


def shown(as_json: bool) -> bool:
    """Whether progress is told on stderr: with --json on a terminal only, so that `--json 2>&1` is JSON."""
    return not as_json or sys.stderr.isatty()


def can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin.isatty()


def name_and_version(text: str, version: str | None = None) -> tuple[str, str]:
    """NAME@VERSION in its parts; the version is empty if none is named. Raises click.UsageError.

    version: what an option --version says, which may name it as well.
    """
    name, at, named = text.partition("@")
    if not name or (at and not named):
        raise click.UsageError(f"{text!r} is neither NAME nor NAME@VERSION")
    if named and version and named != version:
        raise click.UsageError(f"{text} and --version {version} name two versions")
    return name, named or version or ""


def named_version(text: str, version: str | None = None) -> tuple[str, str]:
    """The same where a version must be named. Raises click.UsageError."""
    name, version = name_and_version(text, version)
    if not version:
        raise click.UsageError(f"which version? Say {name}@VERSION")
    return name, version


def plain(value: object) -> str:
    """Text as it is, without the control characters that a label or a file's name may hold."""
    return "".join(char if is_line(char) else "?" for char in str(value))


def in_a_line(values: Sequence[str], most: int = 8) -> str:
    """How many there are, and which; of many the first ones, and how many more."""
    if len(values) <= most:
        return f"{len(values)}: {', '.join(values)}"
    return f"{len(values)}: {', '.join(values[:most])} and {len(values) - most} more (--json has all)"


def local_time(time: datetime | None) -> str:
    """To the minute, where this machine is; empty for None."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M")


def age(time: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in its largest unit: "12 s", "3 min", "5 h", "9 d"; empty for None."""
    if time is None:
        return ""
    seconds = max(((now or datetime.now(UTC)) - time).total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def duration(seconds: float | None) -> str:
    """A span: "4.2 s", "3:05", "1:02:03"; empty for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def file_size(size: int) -> str:
    """In bytes up to 999, and then in the unit that leaves one to three digits before the point."""
    amount, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.95 or unit == "GB":
            break
        amount /= 1000
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
