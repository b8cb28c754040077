"""The files that a report consists of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    kept = curves.best_epoch(report.tuned.history) if report.tuned.chosen == report.tuned.recipe.name else None
    pictures = {f"mistakes/{number:02}.png": one.maps[0][1] for number, one in enumerate(report.mistakes)}
    for number, one in enumerate(report.compared):
        for name, (_, drawn) in zip(("before", "after"), one.maps, strict=True):
            pictures[f"compared/{number:02}-{name}.png"] = drawn
    return assembled(
        {**summary(report), "lineage": lineage},
        {"predictions.csv": ("text/csv; charset=utf-8", plain(predictions(report)).encode())},
        pictures,
        curve=curves.png(report.tuned.history, kept),
        sections=sections,
        drawn=lambda links: page(report, title, lineage, links, sections),
    )


def assembled(
    figures: Mapping[str, Any],
    tables: Mapping[str, tuple[str, bytes]],
    pictures: Mapping[str, np.ndarray],
    *,
    curve: bytes | None,
    sections: Sequence[Section],
    drawn: Callable[[Sequence[str]], str],
) -> dict[str, tuple[str, bytes]]:
    """What the report of any training consists of.

    Args:
        figures: Of report.json; those of the sections are added.
        tables: Of single images: by name, the media type and the content.
        pictures: (H, W, 3) uint8, by name.
        curve: The PNG of the epochs; None if there are none.
        sections: Of the page, with files of their own.
        drawn: Gives the page, of the names that it links to.

    Returns:
        By name, the media type and the content, report.html first.
    """
    more = {name: value for each in sections for name, value in each.figures.items()}
    described = json.dumps({**figures, **more}, ensure_ascii=False)
    written = {"report.json": ("application/json", plain(described).encode()), **tables}
    if curve is not None:
        written["curves.png"] = ("image/png", curve)
    links = tuple(written)
    written |= {name: ("image/png", png(pixels)) for name, pixels in pictures.items()}
    for each in sections:
        written |= each.files
    return {"report.html": ("text/html; charset=utf-8", drawn(links).encode()), **written}


def images_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, bytes]]:
    """images.json, of a row for each test image."""
    return {"images.json": ("application/json", plain(json.dumps(rows, ensure_ascii=False)).encode())}


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
