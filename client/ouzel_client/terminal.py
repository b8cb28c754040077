"""The look of the command `ouzel`: for its own verbs, and for those that other distributions plug in.

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
    """A column of a table.

    Attributes:
        title: What is written above it.
        right: Whether it is aligned at the right, as numbers are.
        shrinks: In a terminal that is too narrow, columns shrink in this order, 1 first; 0 comes last.
        cut: Whether text that does not fit ends with an ellipsis, instead of continuing in the next line. The column is
            left out if almost nothing of it would remain.
    """

    title: str
    right: bool = False
    shrinks: int = 0
    cut: bool = False


# Every table of models begins with these.
MODEL_COLUMNS = (Column("model"), Column("version"), Column("default"))


def model_cells(name: str, version: str, is_default: bool, *, held_back: bool = False) -> tuple[str, str, str]:
    """The cells of `MODEL_COLUMNS`.

    Args:
        name: Of the model.
        version: Of the model.
        is_default: Whether to say that the version is the default.
        held_back: Whether a gate has refused it as the default.
    """
    return name, version, "yes" if is_default else "held back by the gate" if held_back else ""


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], empty: str = "") -> None:
    """Print a table on stdout: at most as wide as the terminal, and one line for each row elsewhere.

    Args:
        columns: The columns. Those without any content are left out.
        rows: The cells of each row, one for each column.
        empty: The text to print if there are no rows.
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
    """The widths of the columns of a table that is at most `width` wide, as far as that is possible."""
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
    """Print names and values on stdout, one per line. An empty value is left out."""
    shown = {name: plain(value) for name, value in facts.items() if value not in ("", None)}
    widest = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{widest}}  {value}")


def print_json(value: Any) -> None:
    """Print JSON on stdout. Times are in ISO 8601."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable))


def confirm(deed: str, yes: bool) -> None:
    """Ask before something is removed for good.

    Args:
        deed: What will be done: "Delete the model pets@2".
        yes: Whether the answer was given in advance.

    Raises:
        click.Abort: The answer is no. Exit status 1.
        click.UsageError: There is no terminal to ask on. Exit status 2.
    """
    if yes:
        return
    if not can_ask():
        raise click.UsageError(f"{deed}? There is no terminal to ask on: give --yes")
    click.confirm(f"{deed}? This cannot be undone.", abort=True, err=True)


def shown(as_json: bool) -> bool:
    """Whether to show progress on stderr. With --json only on a terminal: `--json 2>&1` must be JSON."""
    return not as_json or sys.stderr.isatty()


def can_ask() -> bool:
    """Whether stdin is a terminal."""
    return sys.stdin.isatty()


def name_and_version(text: str, version: str | None = None) -> tuple[str, str]:
    """The parts of NAME@VERSION; the version is empty if it is not named.

    Args:
        text: NAME or NAME@VERSION.
        version: The option --version, which can name it too.

    Raises:
        click.UsageError: It is neither, or two versions are named.
    """
    name, at, named = text.partition("@")
    if not name or (at and not named):
        raise click.UsageError(f"{text!r} is neither NAME nor NAME@VERSION")
    if named and version and named != version:
        raise click.UsageError(f"{text} and --version {version} name two versions")
    return name, named or version or ""


def named_version(text: str, version: str | None = None) -> tuple[str, str]:
    """The same where a version must be named.

    Raises:
        click.UsageError: No version is named, or it is wrong.
    """
    name, version = name_and_version(text, version)
    if not version:
        raise click.UsageError(f"which version? Say {name}@VERSION")
    return name, version


def plain(value: object) -> str:
    """The text with a question mark for each control character: labels and names of files can have them."""
    return "".join(char if is_line(char) else "?" for char in str(value))


def in_a_line(values: Sequence[str], most: int = 8) -> str:
    """A list in one line: "2: cat, dog". After `most` values it says how many more there are."""
    if len(values) <= most:
        return f"{len(values)}: {', '.join(values)}"
    return f"{len(values)}: {', '.join(values[:most])} and {len(values) - most} more (--json has all)"


def local_time(time: datetime | None) -> str:
    """A time to the minute, in the time zone of this machine; empty for None."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M")


def age(time: datetime | None, now: datetime | None = None) -> str:
    """The time since then in its largest unit: "12 s", "3 min", "5 h", "9 d"; empty for None."""
    if time is None:
        return ""
    seconds = max(((now or datetime.now(UTC)) - time).total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def duration(seconds: float | None) -> str:
    """A number of seconds as "4.2 s", "3:05" or "1:02:03"; empty for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def file_size(size: int) -> str:
    """A number of bytes as "999 B", "1.2 kB", "3.4 MB" or "5.6 GB"."""
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
