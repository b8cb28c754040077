"""How a job goes, for people: a bar on a terminal, a bar and previews in a notebook."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ouzel_client._job_types import JobEvent, LogEvent, MetricEvent, PreviewEvent, ProgressEvent, StateEvent
from ouzel_client._optional import has_rich, need_rich


@contextmanager
def presenter(job: str, show: bool | None) -> Iterator[Callable[[JobEvent], None]]:
    """Yields what is to be called with each event. None: show it if somebody can see it and rich is installed."""
    notebook = _notebook()
    if show is None:
        show = has_rich() and (notebook is not None or sys.stderr.isatty())
    if not show:
        yield lambda _: None
        return
    console = need_rich("console", "a progress bar").Console(stderr=notebook is None)
    with need_rich("progress", "a progress bar").Progress(console=console) as bar:
        yield _Shown(job, bar, notebook)


class _Shown:
    def __init__(self, job: str, bar: Any, notebook: Any) -> None:
        self._bar, self._notebook = bar, notebook
        self._task = bar.add_task(job, total=None)
        self._previews: dict[str, Any] = {}
        self._phase = self._figures = ""

    def __call__(self, event: JobEvent) -> None:
        if isinstance(event, ProgressEvent):
            done = event.progress
            if done.phase != self._phase:
                self._phase, self._figures = done.phase, ""
            self._bar.update(self._task, completed=done.step, total=done.steps or None, description=self._text())
        elif isinstance(event, MetricEvent):
            self._figures = figures(event.values)
            self._bar.update(self._task, description=self._text())
        elif isinstance(event, StateEvent):
            self._bar.console.print(f"{event.state}: {event.reason}", highlight=False, markup=False)
        elif isinstance(event, LogEvent):
            self._bar.console.print(f"{event.level}: {event.message}", highlight=False, markup=False)
        elif isinstance(event, PreviewEvent) and self._notebook is not None:
            self._preview(event)

    def _text(self) -> str:
        return ": ".join(filter(None, (self._phase, self._figures)))

    def _preview(self, event: PreviewEvent) -> None:
        """One place for each target, whose picture changes."""
        place = event.title.partition(":")[0]
        if place in self._previews:
            self._previews[place].update(event)
        else:
            self._previews[place] = self._notebook(event, display_id=True)


def figures(values: Mapping[str, float]) -> str:
    """Figures in a line: those that are known first, in a form that people read easily."""
    known = [show(values[name]) for name, show in _FORMS.items() if name in values]
    return ", ".join(filter(None, known + [f"{name} {values[name]:.4g}" for name in values if name not in _FORMS]))


def _duration(seconds: float) -> str:
    """Empty while it cannot be told."""
    if not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}") + " left"


_FORMS: dict[str, Callable[[float], str]] = {
    "epoch": lambda value: f"epoch {value:.1f}",
    "loss": lambda value: f"loss {value:.4g}",
    "accuracy": lambda value: f"accuracy {value:.1%}",
    "learning_rate": lambda value: f"learning rate {value:.3g}",
    "images_per_second": lambda value: f"{value:.{0 if value >= 10 else 2}f} images/s",
    "seconds_left": _duration,
}


def _notebook() -> Any:
    """IPython's `display`, if this runs in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from importlib import import_module

    return import_module("IPython.display").display
