"""What a job tells while it runs: progress, figures, pictures, messages, versions, states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ouzel_client._pictures.figure import figure_html
from ouzel_client._types.job_states import State


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        step: Steps that are done.
        steps: Steps in all, 0 while that is not known.
        phase: What is being done, in a word.
    """

    step: int
    steps: int
    phase: str


@dataclass(frozen=True)
class JobEvent:
    """Base of all events. As a text, an event is one line.

    Attributes:
        sequence: 1, 2, 3, ... within a job.
        time: When it happened.
        attempt: The attempt it belongs to, counted from 1.
    """

    sequence: int
    time: datetime
    attempt: int


@dataclass(frozen=True)
class ProgressEvent(JobEvent):
    """A job has made progress.

    Attributes:
        progress: How far it is.
    """

    progress: Progress

    def __str__(self) -> str:
        done = self.progress
        return f"{done.phase} {done.step}" + (f" of {done.steps}" if done.steps else "")


@dataclass(frozen=True)
class MetricEvent(JobEvent):
    """A job has measured something.

    Attributes:
        step: The step at which it was measured.
        values: Figures by name.
    """

    step: int
    values: Mapping[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())


@dataclass(frozen=True)
class PreviewEvent(JobEvent):
    """A small picture of the state of a job. A notebook shows it.

    Attributes:
        step: The step at which it was made.
        title: What it shows.
        media_type: The type of the file, "image/png" for example.
        image: The content of the file.
    """

    step: int
    title: str
    media_type: str
    image: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"preview of {self.title}"

    def _repr_html_(self) -> str:
        return figure_html(self.image, self.media_type, self.title)


@dataclass(frozen=True)
class LogEvent(JobEvent):
    """A job has logged a message.

    Attributes:
        level: How important it is.
        message: The text.
    """

    level: Literal["INFO", "WARNING", "ERROR"]
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


@dataclass(frozen=True)
class PublicationEvent(JobEvent):
    """A fine-tuning with `early` has published a version; it may be called from now on.

    Attributes:
        model: The name of the model.
        version: The version.
        digest: Of its weights.
        promoted: Whether callers who name no version got it from then on.
        served: Whether the model server answers for it.
        number: 1 for the head alone, 2 for what was better.
    """

    model: str
    version: str
    digest: str
    promoted: bool
    served: bool
    number: int

    def __str__(self) -> str:
        default = "it is the default" if self.promoted else "it is not the default"
        return f"published {self.model}@{self.version}: {default}" + ("" if self.served else ", and not served yet")


@dataclass(frozen=True)
class TrialEvent(JobEvent):
    """A trial of a search has begun, or has ended.

    Attributes:
        number: Of the trial, from 1 on.
        trials: How many are planned.
        parameters: What it tries, by name.
        outcome: "began"; "complete", if it ran to its end; "pruned", if others were better after as many epochs;
            "diverged", if its loss was not finite any more.
        score: Share of the images that trials are compared on that it is right on, at its best. None before an epoch
            has ended.
        epochs: That it has learnt for.
        reason: Why it was stopped, or empty.
    """

    number: int
    trials: int
    parameters: Mapping[str, float | bool]
    outcome: Literal["began", "complete", "pruned", "diverged"]
    score: float | None
    epochs: int
    reason: str

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value:g}" for name, value in self.parameters.items())
        trial = f"trial {self.number} of {self.trials} ({values})"
        if self.outcome == "began":
            return f"{trial} begins"
        right = "" if self.score is None else f": {100 * self.score:.1f} % after {self.epochs} epochs"
        ended = {"complete": "", "pruned": ", stopped", "diverged": ", diverged"}[self.outcome]
        return f"{trial}{right}{ended}"


@dataclass(frozen=True)
class StateEvent(JobEvent):
    """The state of a job has changed.

    Attributes:
        previous: The state before. None for the first event, before which there was no job.
        state: The state now.
        reason: Why it changed, or empty.
    """

    previous: State | None
    state: State
    reason: str

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state
