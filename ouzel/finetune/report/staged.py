"""What the reports of trainings in two stages share: figures, notes, and what their page shows whatever is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from ouzel import pages
from ouzel.finetune.data import Split
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.report import curves
from ouzel.finetune.report.page import lineage_rows
from ouzel.finetune.report.results import Section
from ouzel.models import Preprocessing
from ouzel.precision_names import Precision
from ouzel_protos import heatmap

_FEW = 30  # test images


class _Test(Protocol):
    """The figure of a training on its test images."""

    @property
    def images(self) -> int: ...
    @property
    def interval(self) -> tuple[float, float]: ...


class _Made(Protocol):
    """A training in two stages, as `Segmented` and `Detected` are."""

    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def split(self) -> Split: ...
    @property
    def chosen(self) -> str: ...
    @property
    def history(self) -> Sequence[Mapping[str, float]]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def test(self) -> _Test: ...


class _Beside(Protocol):
    """The version that was served until now."""

    @property
    def name(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def gain(self) -> tuple[float, float, float] | None: ...


class StagedReport(Protocol):
    """What is told of a training in two stages."""

    @property
    def made(self) -> _Made: ...  # noqa: D102
    @property
    def created(self) -> datetime: ...  # noqa: D102
    @property
    def base(self) -> str: ...  # noqa: D102
    @property
    def served(self) -> _Beside | None: ...  # noqa: D102


def figures(report: StagedReport) -> dict[str, Any]:
    """Those of every training, of JSON's types."""
    made = report.made
    known: dict[str, Any] = {
        "created": report.created.isoformat(),
        "base": report.base,
        "loss": made.loss,
        "test_images": made.test.images,
        "train_images": len(made.split.train),
        "validation_images": len(made.split.validation),
        "chosen": made.chosen,
        "recipe": made.recipe.name,
        "precision": made.precision,
        "history": [dict(row) for row in made.history],
        "seconds": made.seconds,
    }
    if made.notes:
        known["notes"] = list(made.notes)
    if report.served is not None:
        known["served_model"] = report.served.name
        if report.served.gain is not None:
            known |= dict(zip(("gain", "gain_low", "gain_high"), report.served.gain, strict=True))
    return known


def notes(report: StagedReport, figure: str, absent: str) -> list[str]:
    """What a reader should mind before believing the figures.

    Args:
        report: It is about.
        figure: The main figure, in words.
        absent: What the held-out images have none of, in a sentence; empty if they have all.
    """
    made, images = report.made, report.made.test.images
    sentences = list(made.notes)
    if images < _FEW:
        sentences.append(f"{images} held-out images are few: the interval says how far the {figure} can be trusted.")
    if absent:
        sentences.append(f"{absent} The mean is over the other classes.")
    if not made.split.validation:
        sentences.append("No image was kept for choosing: the last weights were taken.")
    if report.served is not None and report.served.problem:
        sentences.append(
            f"Not compared with {report.served.name}, which was served until now: {report.served.problem}."
        )
    return sentences


def why(made: _Made, kept: int | None, part: str, figure: str) -> str:
    """Why the weights are what they are. part: what learnt alone at first; figure: by which epochs were chosen."""
    stages = f"{made.recipe.frozen_epochs} epochs of the {part} alone, {made.recipe.epochs} of all layers"
    if not made.split.validation:
        return f"Planned were {stages}. The last weights were taken."
    what = "all layers had learnt" if made.chosen == "all layers" else f"the {part} alone had learnt"
    return (
        f"Planned were {stages}. The weights after epoch {kept} were kept, in which {what}: they had the highest "
        f"{figure} on {len(made.split.validation)} validation images."
    )


def render(
    template: str,
    report: StagedReport,
    *,
    title: str,
    lineage: Mapping[str, Any],
    links: Sequence[str],
    sections: Sequence[Section],
    kept: int | None,
    shares: curves.Shares,
    **own: object,
) -> str:
    """The whole page, of a template that extends staged.html. own: what this template alone shows."""
    made = report.made
    height, width = made.preprocessing.input_size
    chosen = bool(made.split.validation)
    return pages.render(
        template,
        title=title,
        report=report,
        made=made,
        test=made.test,
        created=f"{report.created:%Y-%m-%d %H:%M} UTC",
        size=f"{width} x {height}",
        legend=pages.photo(heatmap.colorize(np.tile(np.linspace(0, 1, 256), (12, 1)))),
        chart=curves.svg(made.history, kept, shares) if chosen else "",
        chosen=chosen,
        kept=kept,
        lineage=lineage_rows(lineage),
        links=links,
        sections=sections,
        **own,
    )
