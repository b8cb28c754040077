"""What a report says of a version that was published early, and of what came after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ouzel import pages
from ouzel.finetune.report import curves
from ouzel.finetune.report.results import Section
from ouzel.pages import percent

_FIGURES = {"accuracy": "accuracy", "miou": "mean IoU", "map": "mAP"}


def early_section(outcome: Mapping[str, Any], history: curves.History, shares: curves.Shares) -> Section:
    """The head alone beside the training that followed.

    Args:
        outcome: For programs, of JSON's types: `first` and `later`, each with `version` ("" if it is none), `promoted`
            and the figures of its held-out images; `better`, `reason`, and the figures of the comparison.
        history: Of the training, if the report draws it nowhere else.
        shares: What is drawn of it.
    """
    figure = next(name for name in _FIGURES if name in outcome["first"])
    rows = []
    for name, title in (("first", "the head alone"), ("later", "after the training")):
        one = outcome[name]
        interval = f"{percent(one[f'{figure}_low'])} to {percent(one[f'{figure}_high'])}"
        version = f"version {one['version']}" if one["version"] else "not published"
        rows.append((title, version, "yes" if one["promoted"] else "no", percent(one[figure]), interval))
    drawn = curves.png(history, None, shares)
    html = pages.render(
        "early.html",
        rows=rows,
        figure=_FIGURES[figure],
        better=outcome["better"],
        reason=outcome["reason"],
        chart=curves.svg(history, None, shares),
    )
    files = {} if drawn is None else {"early/curves.png": ("image/png", drawn)}
    return Section("early", "First version", html, {"early": dict(outcome)}, files)
