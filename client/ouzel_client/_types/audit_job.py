"""Audits of data sets: what callers may ask for, and what such a job leaves."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ouzel_client._types.audit import Verdict
from ouzel_client._types.job_options import JobOptions
from ouzel_client._types.jobs import Artifact, JobResult


@dataclass(frozen=True)
class RecordedPrediction:
    """What a service decided about an image.

    Attributes:
        path: Of the image in the data set.
        label: What the service said: a label, "index:3", or digits that are no label.
        service: Its name, at most 200 characters.
        time: When it was decided, with a time zone. None if nobody knows.
    """

    path: str
    label: str
    service: str = ""
    time: datetime | None = None


class DatasetAuditOptions(JobOptions, total=False):
    """Options of an audit of a data set, besides those of every job. None is as if an option was not given.

    Attributes:
        model: The model that is audited, "NAME" or "NAME@VERSION".
        endpoint: Instead of a model, the name of an endpoint that the worker's operator registered.
        recorded: What a service decided; then this is what is claimed, and only these images are audited. Without a
            model and an endpoint it is all that there is, and `surrogate` is needed.
        surrogate: A model whose saliency maps stand in for those of a service that cannot be looked into.
        method: Saliency method of the maps; "grad_cam" by default.
        scenes: Labels of classes that are places: they may rest on their background.
        fills: What replaces pixels, of "blur", "mean" and "texture"; all of them by default.
        parameters: Margins and sizes by name; docs/audit.md lists them. All are fixed before the first answer.
        seed: Of all that is drawn, 0 to 2**31 - 1; 0 by default.
        organisation: Named on the pages for the persons concerned.
        contact: Whom these persons may ask.
    """

    model: str | None
    endpoint: str | None
    recorded: Sequence[RecordedPrediction] | None
    surrogate: str | None
    method: str | None
    scenes: Sequence[str] | None
    fills: Sequence[str] | None
    parameters: Mapping[str, float | bool] | None
    seed: int | None
    organisation: str | None
    contact: str | None


AUDIT = tuple(name for name in DatasetAuditOptions.__annotations__ if name not in JobOptions.__annotations__)


@dataclass(frozen=True, eq=False)
class DatasetAuditResult(JobResult):
    """The verdict on a data set. `artifacts` holds the report, `summary` the figures.

    Attributes:
        verdict: "rests_on_object", "rests_on_background", "disagrees" or "inconclusive", of all images together.
        reason: The verdict in a sentence, with its figures.
        concern: Whether somebody should act.
        classes: The verdict of each class, by its label; of the first 20.
    """

    verdict: Verdict
    reason: str
    concern: bool
    classes: Mapping[str, Verdict]

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{html.escape(label)}: {verdict}</li>" for label, verdict in self.classes.items())
        return f"<p>{html.escape(str(self))}</p><ul>{rows}</ul>{super()._repr_html_()}"


def audit_result(
    common: tuple[str, tuple[Artifact, ...], Mapping[str, Any], Mapping[str, bytes]],
) -> DatasetAuditResult:
    """A result from what all jobs leave."""
    figures = common[2]
    return DatasetAuditResult(
        *common,
        verdict=figures.get("verdict", "inconclusive"),
        reason=figures.get("reason", ""),
        concern=figures.get("concern", False),
        classes={each["label"]: each["verdict"] for each in figures.get("classes", ())},
    )
