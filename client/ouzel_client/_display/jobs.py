"""The progress of a job for people: a bar on a terminal, a bar and previews in a notebook, lines elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from ouzel_client._display.progress import Bar, Lines, bar, counted, is_terminal
from ouzel_client._types.job_events import (
    JobEvent,
    LogEvent,
    MetricEvent,
    PreviewEvent,
    ProgressEvent,
    PublicationEvent,
    StateEvent,
    TrialEvent,
)
from ouzel_client._types.job_states import FINAL

Show = Callable[[JobEvent], None]
_QUIET = 30.0  # s within an epoch without a line


@contextmanager
def presenter(job: str, show: bool | None, file: TextIO | None = None) -> Iterator[Show]:
    """Yields a function to call with each event.

    Args:
        job: The id of the job.
        show: False shows nothing.
        file: Where to, None for stderr. A bar if that is a terminal and rich is installed, else lines.
    """
    notebook = _notebook()
    if show is False:
        yield lambda _: None
    elif notebook is not None or is_terminal(file or sys.stderr):
        with bar(sys.stdout if notebook is not None else file or sys.stderr, transient=False) as drawn:
            drawn.describe(job)
            yield _Drawn(drawn, notebook)
    else:
        yield _Told(job, Lines(file or sys.stderr))


class _Drawn:
    """On a bar; states and logs above it."""

    def __init__(self, drawn: Bar, notebook: Any) -> None:
        self._bar, self._notebook = drawn, notebook
        self._previews: dict[str, Any] = {}
        self._phase = self._figures = ""

    def __call__(self, event: JobEvent) -> None:
        if isinstance(event, ProgressEvent):
            done = event.progress
            if done.phase != self._phase:
                self._phase, self._figures = done.phase, ""
            self._bar(self._text(), done.step, done.steps)
        elif isinstance(event, MetricEvent):
            self._figures = figures(event.values)
            self._bar.describe(self._text())
        elif isinstance(event, StateEvent):
            self._print(str(event))
            if event.state == "SUCCEEDED":
                self._bar.finish()
            elif event.state in FINAL:
                self._bar.halt()
        elif isinstance(event, (LogEvent, PublicationEvent, TrialEvent)):
            self._print(str(event))
        elif isinstance(event, PreviewEvent) and self._notebook is not None:
            self._preview(event)

    def _text(self) -> str:
        return ": ".join(filter(None, (self._phase, self._figures)))

    def _print(self, text: str) -> None:
        self._bar.progress.console.print(text, highlight=False, markup=False)

    def _preview(self, event: PreviewEvent) -> None:
        """One place for each target, whose picture changes."""
        place = event.title.partition(":")[0]
        if place in self._previews:
            self._previews[place].update(event)
        else:
            self._previews[place] = self._notebook(event, display_id=True)


class _Told:
    """In lines: each state, each log, each phase, each epoch; within a phase without epochs as `Lines` has it."""

    def __init__(self, job: str, lines: Lines) -> None:
        self._job, self._lines = job, lines
        self._phase = self._figures = ""
        self._epoch: int | None = None
        self._last = float("-inf")

    def __call__(self, event: JobEvent) -> None:
        now = event.time.timestamp()
        if isinstance(event, ProgressEvent):
            done = event.progress
            if done.phase != self._phase:
                self._phase, self._figures = done.phase, ""
            if self._epoch is None or now - self._last > _QUIET:
                self._last = now
                self._lines(done.phase, done.step, done.steps, self._figures, now)
        elif isinstance(event, MetricEvent):
            self._figures = figures(event.values)
            epoch = event.values.get("epoch", math.nan)
            if math.isfinite(epoch) and int(epoch) != self._epoch:
                self._epoch, self._last = int(epoch), now
                self._lines.say(": ".join(filter(None, (self._phase, self._figures))))
        elif isinstance(event, StateEvent):
            self._epoch = None
            self._lines.say(f"{event.time.astimezone():%H:%M:%S} {self._job} {event}")
        elif isinstance(event, (LogEvent, PublicationEvent, TrialEvent)):
            self._epoch = None if isinstance(event, TrialEvent) else self._epoch
            self._lines.say(str(event))


def how_far(step: int, steps: int, state: str) -> str:
    """How far a job is, in a word: one that SUCCEEDED is at 100 %, and one that ended otherwise where it was."""
    if state == "SUCCEEDED":
        return "100 %"
    if steps > 0:
        return f"{100 * min(step / steps, 1):.0f} %"
    return f"step {step}" if step else ""


def steps_of(step: int, steps: int, phase: str, state: str) -> str:
    """The same with the number of steps and the phase."""
    if state == "SUCCEEDED":
        return "100 %"
    return " ".join(filter(None, (counted(step, steps), phase)))


def figures(values: Mapping[str, float]) -> str:
    """Figures in a line: those that are known first, in a form that people read easily."""
    known = [show(values[name]) for name, show in _FORMS.items() if name in values]
    return ", ".join(filter(None, known + [f"{name} {values[name]:.4g}" for name in values if name not in _FORMS]))


def _duration(seconds: float) -> str:
    """The time that is left; empty while it is not known."""
    if not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}") + " left"


_FORMS: dict[str, Callable[[float], str]] = {
    "epoch": lambda value: f"epoch {value:.1f}",
    "loss": lambda value: f"loss {value:.4g}",
    "accuracy": lambda value: f"accuracy {value:.1%}",
    "miou": lambda value: f"mean IoU {value:.1%}",
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
