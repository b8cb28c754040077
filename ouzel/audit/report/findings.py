"""What a data set's audit found in single images: clusters, suspects, label errors, as values for the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ouzel import pages
from ouzel.audit.dataset.evidence import Cluster, DatasetEvidence, LabelError, Suspect
from ouzel.audit.report import drawing, words
from ouzel.audit.report.article86 import example
from ouzel.audit.report.groups import comparison
from ouzel.audit.verdict import deciding
from ouzel.pages.texts import visible

# By name: (H, W, 3) uint8, what the model sees of an image; None if it cannot be read.
Pictures = Callable[[str], np.ndarray | None]

_LABEL, _NAME, _REASON = 48, 60, 600  # characters
_MEMBERS = 4  # images of a cluster that are shown
_CLUSTERS = 24  # clusters that are shown
_ERRORS, _LISTED = 12, 60  # suspected label errors that are shown, and that are listed


def clusters(evidence: DatasetEvidence, pictures: Pictures | None) -> list[dict[str, Any]]:
    """Clusters: the confirmed ones first, then those that are open."""
    order = {"confirmed": 0, "inconclusive": 1, "cleared": 2}
    some = sorted(evidence.clusters, key=lambda each: (order[each.verdict], each.label, each.number))
    return [_cluster(each, pictures) for each in some[:_CLUSTERS]]


def _cluster(one: Cluster, pictures: Pictures | None) -> dict[str, Any]:
    shown: list[tuple[str, str]] = []
    for name in one.members:
        if pictures is None or len(shown) == _MEMBERS:
            break
        if (picture := pictures(name)) is not None:
            shown.append((visible(name, _NAME), pages.photo(drawing.with_region(picture, one.region))))
    return {
        "label": visible(one.label, _LABEL),
        "number": one.number + 1,
        "verdict": one.verdict,
        "look": {"confirmed": "bad", "cleared": "good"}.get(one.verdict, "open"),
        "reason": visible(one.reason, _REASON),
        "count": len(one.members),
        "map": pages.photo(drawing.mean_map(one.mean_map, one.region)),
        "members": shown,
        "pasted": comparison(one.pasted),
        "removed": comparison(one.removed),
    }


def suspect(one: Suspect, folder: str, pictures: Pictures | None) -> dict[str, Any]:
    """An image that somebody should look at. folder: where its files lie, beside the page; "" if nowhere."""
    row = one.row
    return {
        "name": visible(row.name, _NAME),
        "claimed": visible(row.claimed, _LABEL),
        "predicted": visible(row.predicted, _LABEL),
        "true": "" if row.true_label in (None, row.claimed) else visible(row.true_label or "", _LABEL),
        "verdict": words.SHORT[row.verdict],
        "evidence": f"{round(row.evidence, 2) + 0.0:+.2f}",
        "reason": visible(row.reason, _REASON),
        "surrogate": visible(row.surrogate or "", _LABEL),
        "pictures": _pictures(one, pictures),
        "folder": folder if one.evidence is not None else "",
    }


def _pictures(one: Suspect, pictures: Pictures | None) -> list[tuple[str, str]]:
    """The image, its map, and an example of a replaced background and of a replaced object."""
    evidence = one.evidence
    if evidence is None:
        picture = None if pictures is None else pictures(one.row.name)
        return [] if picture is None else [("the image", drawing.thumb(picture))]
    shown = [("what the model sees", pages.photo(drawing.outlined(evidence.picture, evidence.mask)))]
    shown += [
        ("where it looks", pages.photo(drawing.over(evidence.picture, each.values, each.method)))
        for each in evidence.maps[:1]
    ]
    for effect in deciding(evidence.effects):
        if effect is not None and (outcome := example(evidence.outcomes, effect)) is not None:
            what = "background" if effect.change == "background" else "object"
            said = f"other {what}: {visible(outcome.predicted, 24)}, claim {outcome.probability:.2f}"
            shown.append((said, drawing.thumb(outcome.picture)))
    return shown


def label_errors(evidence: DatasetEvidence, pictures: Pictures | None) -> dict[str, Any]:
    """Suspected label errors: some with their pictures, more as a list."""
    suspected = evidence.label_errors.suspected
    return {
        "reason": visible(evidence.label_errors.reason, _REASON),
        "checked": evidence.label_errors.checked,
        "count": len(suspected),
        "shown": [_error(each, pictures) for each in suspected[:_ERRORS]],
        "listed": [_error(each, None) for each in suspected[_ERRORS : _ERRORS + _LISTED]],
    }


def _error(one: LabelError, pictures: Pictures | None) -> dict[str, Any]:
    picture = None if pictures is None else pictures(one.name)
    return {
        "name": visible(one.name, _NAME),
        "given": visible(one.given, _LABEL),
        "suggested": visible(one.suggested, _LABEL),
        "given_probability": f"{one.given_probability:.2f}",
        "suggested_probability": f"{one.suggested_probability:.2f}",
        "picture": "" if picture is None else drawing.thumb(picture),
    }
