"""What a report says of the search for hyper-parameters."""

from __future__ import annotations

import csv
import io

from ouzel import pages
from ouzel.finetune.report.results import Section
from ouzel.finetune.search.results import COMPLETE, DIVERGED, PRUNED, Found
from ouzel.pages import percent
from ouzel.pages.texts import cell

_ENDED = {COMPLETE: "ran to its end", PRUNED: "stopped", DIVERGED: "diverged"}


def search_section(found: Found) -> Section:
    """All trials, the best one first, and how they were compared."""
    names = list(found.space)
    ranked = sorted(found.trials, key=lambda each: (-each.value, each.number))
    rows = [
        (
            each.number,
            [f"{each.parameters[name]:g}" for name in names],
            "" if each.score is None else percent(each.score),
            "" if each.loss is None else f"{each.loss:.4g}",
            each.epochs,
            _ENDED[each.outcome],
            each.number == found.best.number,
        )
        for each in ranked
    ]
    html = pages.render("search.html", names=names, rows=rows, found=found, count=len(found.trials))
    figures = {"search": {**found.summary(), "table": found.table()}}
    return Section("search", "Search", html, figures, {"trials.csv": ("text/csv", _csv(found, names))})


def _csv(found: Found, names: list[str]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["number", *names, "outcome", "score", "loss", "epochs", "reason"])
    for each in found.trials:
        writer.writerow(
            [each.number, *(each.parameters[name] for name in names), each.outcome]
            + ["" if value is None else value for value in (each.score, each.loss)]
            + [each.epochs, cell(each.reason)]
        )
    return file.getvalue().encode()
