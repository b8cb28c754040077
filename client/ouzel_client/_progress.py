"""A progress bar on the terminal, if rich is there to draw it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ouzel_client._optional import has_rich, need_rich


@contextmanager
def progress_bar(show: bool | None, total: int | None, what: str = "explaining") -> Iterator[Callable[[], None]]:
    """Yields what is to be called once per result. None: show it if stderr is a terminal and rich is installed."""
    if show is None:
        show = sys.stderr.isatty() and has_rich()
    if not show:
        yield lambda: None
        return
    console = need_rich("console", "a progress bar").Console(stderr=True)
    with need_rich("progress", "a progress bar").Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
