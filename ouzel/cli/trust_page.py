"""The trust report as one HTML page, pictures inside: it needs nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ouzel import pages
from ouzel.trust import EDGES, MPRT_LIMIT, RANDOM, Photograph, Score, TrustReport
from ouzel.trust.report import FIGURES
from ouzel_protos import heatmap

_MEANING = {
    "deletion": "area under the class's probability while the most salient pixels are covered first",
    "insertion": "the same while they are revealed first",
    "pointing": "share of photographs whose most salient pixel lies on the object, or close by (15 pixels at 224)",
    "energy": "share of the map's mass on the object",
    "mprt": f"mean rank correlation with the maps of a network that forgets its layers; above {MPRT_LIMIT} fails",
    "infidelity": "share of the logit's change under small noise that the map leaves unexplained",
    "sensitivity": "largest relative change of the map under noise that nobody sees",
}
_BASELINES = (EDGES, RANDOM)
_NAMES = {"steps": "Steps of deletion and insertion", "stages": "Stages of randomisation", "samples": "Noisy maps"}


def page(report: TrustReport, photographs: Sequence[Photograph]) -> str:
    """The whole page."""
    best = _best(report.scores)
    plain = asdict(replace(report, scores=tuple(replace(score, maps=()) for score in report.scores)))
    options = {key: value for key, value in asdict(report.options).items() if key != "methods"}
    return pages.render(
        "trust.html",
        title=f"How far to trust the maps of {report.model}",
        lead=_lead(report),
        figures=list(FIGURES.items()),
        meaning=_MEANING,
        scores=[_row(score, best) for score in report.scores],
        photographs=[
            (one.name, label, pages.photo(one.picture))
            for one, (_, label) in zip(photographs, report.photographs, strict=True)
        ],
        pictures=[(score.method, _overlays(score, photographs), score.fails) for score in report.scores if score.maps],
        legend=pages.photo(heatmap.colorize(np.tile(np.linspace(0, 1, 256), (12, 1)))),
        rows=pages.rows(
            {"model": report.model, "digest": report.digest, "precision": report.precision, **options}, _NAMES
        ),
        json=pages.source(json.dumps(plain).encode(), "application/json"),
    )


def _lead(report: TrustReport) -> str:
    methods = [score for score in report.scores if score.method not in _BASELINES]
    sound = [score.method for score in methods if score.figures and not score.fails]
    failing = [score.method for score in methods if score.fails]
    unmeasured = [score.method for score in methods if score.problem]
    count = len(report.photographs)
    sentences = [
        f"{len(methods)} method(s) on {count} photograph(s), beside two baselines that know nothing of the model."
    ]
    sentences.append(
        f"Nothing failed: {', '.join(sound)}." if sound else "Every method that could be measured fails somewhere."
    )
    if failing:
        sentences.append(f"With a failure: {', '.join(failing)}.")
    if unmeasured:
        sentences.append(f"Could not be measured: {', '.join(unmeasured)}.")
    return " ".join(sentences)


def _best(scores: Sequence[Score]) -> Mapping[str, float]:
    """The best value of each figure among the methods."""
    best = {}
    for name, way in FIGURES.items():
        values = [one.figures[name] for one in scores if name in one.figures and one.method not in _BASELINES]
        if values:
            best[name] = max(values) if way > 0 else min(values)
    return best


def _row(score: Score, best: Mapping[str, float]) -> dict[str, Any]:
    cells = [
        (f"{score.figures[name]:.3f}", score.figures[name] == best.get(name) and score.method not in _BASELINES)
        if name in score.figures
        else ("–", False)
        for name in FIGURES
    ]
    findings = [text for text in (*score.fails, score.problem) if text]
    return {"method": score.method, "cells": cells, "findings": findings, "baseline": score.method in _BASELINES}


def _overlays(score: Score, photographs: Sequence[Photograph]) -> list[tuple[str, str]]:
    return [
        (one.name, pages.photo(heatmap.blend(one.picture, values)))
        for one, values in zip(photographs, score.maps, strict=True)
    ]
