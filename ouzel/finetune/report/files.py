"""The files that a report consists of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouzel.finetune.pictures import png
from ouzel.finetune.report import curves
from ouzel.finetune.report.figures import predictions, summary
from ouzel.finetune.report.page import page
from ouzel.finetune.report.results import Report, Section
from ouzel.pages import plain


def files(
    report: Report, title: str, lineage: Mapping[str, Any], sections: Sequence[Section] = ()
) -> dict[str, tuple[str, bytes]]:
    """All that the report consists of: by name, the media type and the content. report.html links to the others."""
    more = {name: value for each in sections for name, value in each.figures.items()}
    described = json.dumps({**summary(report), **more, "lineage": lineage}, ensure_ascii=False)
    written = {
        "report.json": ("application/json", plain(described).encode()),
        "predictions.csv": ("text/csv; charset=utf-8", plain(predictions(report)).encode()),
    }
    kept = curves.best_epoch(report.tuned.history) if report.tuned.chosen == report.tuned.recipe.name else None
    if (curve := curves.png(report.tuned.history, kept)) is not None:
        written["curves.png"] = ("image/png", curve)
    links = tuple(written)
    for number, one in enumerate(report.mistakes):
        written[f"mistakes/{number:02}.png"] = ("image/png", png(one.maps[0][1]))
    for number, one in enumerate(report.compared):
        for name, (_, drawn) in zip(("before", "after"), one.maps, strict=True):
            written[f"compared/{number:02}-{name}.png"] = ("image/png", png(drawn))
    for each in sections:
        written |= each.files
    whole = page(report, title, lineage, links, sections)
    return {"report.html": ("text/html; charset=utf-8", whole.encode()), **written}


def write_report(
    report: Report, folder: str | Path, *, title: str = "Fine-tuned model", lineage: Mapping[str, Any] | None = None
) -> Path:
    """Write report.html and the files that it links to.

    Args:
        report: From `make_report`.
        folder: Is made where it is missing.
        title: Of the page.
        lineage: What the report says of where the model comes from, JSON's types by name.

    Returns:
        The path of report.html.
    """
    return write(files(report, title, lineage or {}), folder)


def write(written: Mapping[str, tuple[str, bytes]], folder: str | Path) -> Path:
    """Write the files of a report into a folder. Returns the path of report.html."""
    for name, (_, content) in written.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Path(folder, "report.html")
