"""How far something is: a bar on a terminal, if rich is there to draw it, and lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from ouzel_client._optional import has_rich, need_rich


class Tell(Protocol):
    """Is called with a stage, its steps that are done, its steps in all (0 if that is not known), and a note."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None: ...


_LINE_SECONDS = 10.0  # between two lines of one stage, unless a tenth of it was done meanwhile
_BAR = 24  # characters
_TENTH_SECONDS = 1.0  # between two tenths that are shown


class Bar:
    """A bar with its title, its share in percent and the time since its start.

    It moves to and fro until the first step of a known number is done.
    """

    def __init__(self, progress: Any) -> None:
        self.progress = progress
        self._task = progress.add_task("", total=None, share="")

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        known = total > 0 and done > 0
        share = f"{100 * min(done / total, 1):.0f} %" if known else ""
        self.progress.update(
            self._task,
            description=": ".join(filter(None, (stage, note))),
            completed=done,
            total=total if known else None,
            share=share,
        )

    def describe(self, text: str) -> None:
        self.progress.update(self._task, description=text)

    def finish(self) -> None:
        """Show that everything is done."""
        self.progress.update(self._task, completed=1, total=1, share="100 %")

    def halt(self) -> None:
        """Stop where it is: a bar that moves would say that the work continues."""
        (task,) = self.progress.tasks
        if task.total is None:
            self.progress.update(self._task, completed=0, total=1)
        self.progress.stop_task(self._task)


class Lines:
    """A line when a stage begins and when it is done, and one for every tenth of it.

    There is at most one line in a second, and at least one in ten seconds.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._tenths: dict[str, int] = {}  # by stage; one that comes again goes on
        self._last = float("-inf")

    def say(self, text: str) -> None:
        print(text, file=self._file, flush=True)

    def __call__(self, stage: str, done: int, total: int, note: str = "", /, now: float | None = None) -> None:
        """now: seconds, where another clock than that of this machine counts."""
        now = time.monotonic() if now is None else now
        tenth = 10 * done // total if total > 0 else 0
        known, passed = self._tenths.get(stage, -1), now - self._last
        due = known < 0 or (tenth > known and (tenth >= 10 or passed >= _TENTH_SECONDS))
        if not due and passed < _LINE_SECONDS:
            return
        self._tenths[stage], self._last = tenth, now
        self.say(": ".join(filter(None, (stage, counted(done, total), note))))


def counted(done: int, total: int) -> str:
    """A count as "3 of 12 (25 %)"; the number alone where the total is not known; empty for 0."""
    if total > 0:
        return f"{done} of {total} ({100 * min(done / total, 1):.0f} %)"
    return str(done) if done else ""


@contextmanager
def bar(file: TextIO, transient: bool) -> Iterator[Bar]:
    """A bar on a terminal, or in a notebook. Raises ConfigurationError without rich."""
    rich, table = need_rich("progress", "a progress bar"), need_rich("table", "a progress bar")
    console = need_rich("console", "a progress bar").Console(file=file)
    columns = (
        rich.BarColumn(bar_width=_BAR, table_column=table.Column(width=_BAR)),
        rich.TextColumn("{task.fields[share]}", table_column=table.Column(width=len("100 %"), justify="right")),
        rich.TimeElapsedColumn(table_column=table.Column(width=len("0:00:00"))),
        rich.TextColumn(  # the one that gives way in a narrow terminal
            "{task.description}",
            markup=False,
            table_column=table.Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
    )
    with rich.Progress(*columns, console=console, transient=transient, expand=True) as progress:
        yield Bar(progress)


def is_terminal(file: TextIO) -> bool:
    """Whether a bar can be drawn: on a terminal, or on what rich is set to treat as one."""
    return has_rich() and bool(need_rich("console", "a progress bar").Console(file=file).is_terminal)


@contextmanager
def stages(show: bool | None = None, file: TextIO | None = None) -> Iterator[Tell]:
    """Yields a function to call with (stage, done, total, note).

    On a terminal it draws a bar, which disappears at the end; elsewhere it prints lines.

    Args:
        show: False shows nothing.
        file: Where to, None for stderr.
    """
    file = file or sys.stderr
    if show is False:
        yield lambda _stage, _done, _total, _note="": None
    elif is_terminal(file):
        with bar(file, transient=True) as drawn:
            yield drawn
    else:
        yield Lines(file)


@contextmanager
def progress_bar(show: bool | None, total: int | None, what: str = "explaining") -> Iterator[Callable[[], None]]:
    """Yields a function to call once per result.

    Args:
        show: None shows a bar if stderr is a terminal and rich is installed; True shows lines where it is not a
            terminal.
        total: How many results there will be, if that is known.
        what: What is being done.
    """
    if show is None:
        show = sys.stderr.isatty() and has_rich()
    if not show or total == 0:
        yield lambda: None
        return
    done = 0
    with stages(show) as tell:
        tell(what, 0, total or 0)

        def advance() -> None:
            nonlocal done
            done += 1
            tell(what, done, total or 0)

        yield advance
