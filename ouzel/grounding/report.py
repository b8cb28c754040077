"""What the report of a tuning says of the gate and of a repair."""

from __future__ import annotations

from typing import Any

import numpy as np

from ouzel import pages
from ouzel.audit import PredictionEvidence
from ouzel.audit.evidence import Outcome
from ouzel.audit.report import drawing, findings, words
from ouzel.finetune import Section
from ouzel.grounding.audits import METHOD, Audited
from ouzel.grounding.checks import behind
from ouzel.grounding.gate import GateVerdict
from ouzel.pages import percent
from ouzel.pages.texts import visible

_SHOWN = 4  # images
_LABEL, _REASON = 48, 600  # characters
_TITLES = {
    "accuracy": "Accuracy",
    "reliance": "Reliance on backgrounds",
    "control": "Controls",
    "classes": "Single classes",
}


def gate_section(verdict: GateVerdict, new: Audited) -> Section:
    """The gate: its checks, and if it was not passed because of backgrounds, images that they turn.

    Args:
        verdict: Of the gate.
        new: The new version.
    """
    suspects = [each for each in new.evidence.suspects if each.row.verdict == "rests_on_background"][:_SHOWN]
    files = {}
    for number, one in enumerate(suspects):
        if one.evidence is not None and (outcome := _turning(one.evidence)) is not None:
            files[f"gate/{number:02}-seen.png"] = ("image/png", drawing.png(one.evidence.picture))
            files[f"gate/{number:02}-turned.png"] = ("image/png", drawing.png(outcome.picture))
    facts = verdict.to_dict()
    html = pages.render(
        "gate.html",
        verdict=verdict,
        against=visible(verdict.against, _LABEL),
        checks=[(_TITLES[each.name], each.passed, visible(each.reason, _REASON)) for each in verdict.checks],
        images=len(new.evidence.rows),
        suspects=[findings.suspect(each, "", None) for each in suspects],
        rules=list(facts["rules"].items()),
    )
    return Section("gate", "Gate", html, {"gate": facts}, files)


def repair_section(before: Audited, after: Audited) -> Section:
    """The repair: figures before and after, and what both networks look at where another background turned the first.

    Args:
        before: The base.
        after: The new version.
    """
    figures = {"before": summary(before), "after": summary(after)}
    cards: list[dict[str, Any]] = []
    files = {}
    for one in before.evidence.suspects:
        if one.evidence is None or len(cards) == _SHOWN or one.row.verdict != "rests_on_background":
            continue
        if (outcome := _turning(one.evidence)) is None:
            continue
        drawn = [_looks(each, outcome.picture, one.row.claimed) for each in (before, after)]
        for name, (_, pixels) in zip(("before", "after"), drawn, strict=True):
            files[f"repaired/{len(cards):02}-{name}.png"] = ("image/png", drawing.png(pixels))
        seen = drawing.outlined(one.evidence.picture, one.evidence.mask)
        shown = [("the image, with its object", pages.photo(seen))]
        shown += [
            (f"{when}: {said}", pages.photo(pixels))
            for when, (said, pixels) in zip(("before", "after"), drawn, strict=True)
        ]
        cards.append({"label": visible(one.row.claimed, _LABEL), "name": visible(one.row.name, _LABEL), "shown": shown})
    html = pages.render(
        "repair.html",
        images=len(after.evidence.rows),
        rows=_rows(figures["before"], figures["after"]),
        cards=cards,
        method=METHOD,
    )
    return Section("repair", "Repair", html, {"repair": figures}, files)


def summary(audited: Audited) -> dict[str, Any]:
    """The figures of one network, of JSON's types. Shares are in [0, 1]; None where nothing was tried.

    accuracy: on the audited images. worst_group: accuracy on the class before backgrounds of one class where it is
    lowest. background_gap: accuracy before backgrounds of other images of the class minus that before those of other
    classes (ImageNet-9). reliance: share of images that another background turns minus that of its control, with its 95
    % interval.
    """
    evidence = audited.evidence
    found, worst = behind(evidence), evidence.worst
    return {
        "verdict": evidence.overall.verdict,
        "accuracy": evidence.overall.accuracy.share,
        "worst_group": None if worst is None else worst.accuracy.share,
        "worst_label": "" if worst is None else worst.label,
        "worst_background": "" if worst is None else worst.background,
        "background_gap": evidence.overall.background_gap,
        "reliance": None if found is None else found.excess,
        "reliance_low": None if found is None else found.low,
        "reliance_high": None if found is None else found.high,
        "images": len(evidence.rows),
    }


def _rows(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    def worst(figures: dict[str, Any]) -> str:
        if figures["worst_group"] is None:
            return percent(None)
        label, background = (visible(figures[f"worst_{name}"], _LABEL) for name in ("label", "background"))
        return f"{percent(figures['worst_group'], 0)} ({label} before backgrounds of {background})"

    def reliance(figures: dict[str, Any]) -> str:
        if figures["reliance"] is None:
            return percent(None)
        low, high = figures["reliance_low"], figures["reliance_high"]
        return f"{percent(figures['reliance'], 0)} (95\u00a0%: {percent(low, 0)} to {percent(high, 0)})"

    named = (
        ("Accuracy on these images", lambda each: percent(each["accuracy"], 0)),
        ("Worst group", worst),
        ("Background gap", lambda each: percent(each["background_gap"], 0)),
        ("Reliance on backgrounds", reliance),
        ("Verdict", lambda each: words.SHORT[each["verdict"]]),
    )
    return [(name, told(before), told(after)) for name, told in named]


def _turning(evidence: PredictionEvidence) -> Outcome | None:
    """A picture before the background of another image that turns the prediction."""
    return next(
        (each for each in evidence.outcomes if each.change == "background" and each.kind == "scene" and each.flipped),
        None,
    )


def _looks(audited: Audited, picture: np.ndarray, claimed: str) -> tuple[str, np.ndarray]:
    """What a network says of a picture, and its map for the claim over it, (h, w, 3) uint8."""
    labels = audited.predictor.labels
    scores = audited.predictor(picture[None])[0]
    best = int(scores.argmax())
    claim = labels.index(claimed)
    drawn = audited.maps(picture, claim, int(np.argsort(-scores)[1]) if best == claim else best)[0]
    said = f"{visible(labels[best], 24)} ({percent(float(scores[best]), 0)})"
    return said, drawing.over(picture, drawn.values, drawn.method)
