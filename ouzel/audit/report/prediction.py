"""The audit of one prediction as a page for people who know the field."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ouzel import pages
from ouzel.audit.counterfactuals import CONTROLS
from ouzel.audit.evidence import Effect, Faithfulness, MapEvidence, Outcome, PredictionEvidence
from ouzel.audit.report import drawing, words
from ouzel.audit.report.case import Case, told
from ouzel.audit.verdict import CONVICTING
from ouzel.pages.texts import visible

_REASON = 600  # characters
_NO_CASE = Case()


def prediction_page(evidence: PredictionEvidence, case: Case = _NO_CASE, *, record: str = "") -> str:
    """One audited prediction as HTML that needs nothing from elsewhere and runs no script.

    Args:
        evidence: Of `audit_prediction`.
        case: What else is known of the decision.
        record: SHA-256 of record.json, in hex; "" if there is none.

    Returns:
        The page.
    """
    meaning, agreement = words.meaning(evidence), evidence.agreement
    nominated = evidence.mask_source == "nominated"
    signed = any(bool((each.values < 0).any()) for each in evidence.maps)
    outline = "the region that the map marks" if nominated else "the object"
    return pages.render(
        "audit_prediction.html",
        title=f"Audit of {visible(case.image) or 'a prediction'}",
        meaning=meaning,
        concern=evidence.concern,
        reason=visible(evidence.reason, _REASON),
        claimed=visible(agreement.claimed.label),
        subtitle=_subtitle(evidence, case),
        scores=_scores(evidence),
        rank=agreement.rank + 1,
        margins=evidence.margins,
        notes=_notes(evidence),
        picture_source=pages.photo(drawing.outlined(evidence.picture, evidence.mask)),
        outline=outline,
        share=evidence.object_share,
        maps=[_map(each, evidence) for each in evidence.maps],
        maps_from=visible(evidence.maps_from, 200),
        signed=signed,
        legend=drawing.scale(signed),
        reported=evidence.reported_map,
        effects=[_effect(each, evidence) for each in evidence.effects],
        convicting=any(each.change == "background" and each.kind not in CONVICTING for each in evidence.effects),
        groups=_groups(evidence.outcomes),
        limits=[visible(each, _REASON) for each in evidence.limits],
        rows=_record(evidence, case, record),
    )


def _subtitle(evidence: PredictionEvidence, case: Case) -> str:
    parts = [f"Predicted by {words.source_of(evidence.source)}"]
    if case.service:
        parts.append(f"decided by {visible(case.service)}")
    if case.when:
        parts.append(f"decided on {case.when}")
    if case.audited:
        parts.append(f"audited on {told(case.audited)}")
    return f"{'; '.join(parts)}."


def _notes(evidence: PredictionEvidence) -> list[str]:
    notes = []
    if evidence.source.kind == "callable":
        notes.append("The caller reported the answers. Nobody else has seen the model that gave them.")
    if evidence.source.kind == "table":
        notes.append("The predictions come from a table. The model itself was not asked.")
    if evidence.mask_source == "nominated":
        notes.append("Nobody said where the object is. The region comes from the map, so this evidence is weaker.")
    return notes


def _scores(evidence: PredictionEvidence) -> list[dict[str, Any]]:
    agreement = evidence.agreement
    roles: dict[int, list[str]] = {}
    for role, each in (("claimed", agreement.claimed), ("predicted", agreement.predicted), ("rival", agreement.rival)):
        roles.setdefault(each.index, []).append(role)
    known = {each.index: each for each in (agreement.predicted, agreement.claimed, agreement.rival)}
    return [
        {"label": visible(each.label), "roles": ", ".join(roles[each.index]), "probability": each.probability}
        for each in sorted(known.values(), key=lambda each: -each.probability)
    ]


def _map(one: MapEvidence, evidence: PredictionEvidence) -> dict[str, Any]:
    agreement = evidence.agreement
    claimed, rival = (visible(each.label, 40) for each in (agreement.claimed, agreement.rival))
    title = {"claim": f"For {claimed}", "rival": f"For {rival}", "contrast": f"For {claimed} against {rival}"}
    return {
        "title": title.get(one.of, visible(one.of)),
        "of": visible(one.of),
        "method": visible(one.method),
        "picture": pages.photo(drawing.over(evidence.picture, one.values, one.method)),
        "caveats": [visible(each, 300) for each in one.caveats],
        "share": one.share_on_object,
        "pointing": one.pointing,
        "faithfulness": _faithfulness(one.faithfulness),
    }


def _faithfulness(measured: Faithfulness | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    return asdict(measured) | {
        "better": measured.better_than_random,
        "deletion_better": measured.deletion < measured.random_deletion,
        "insertion_better": measured.insertion > measured.random_insertion,
    }


def _effect(one: Effect, evidence: PredictionEvidence) -> dict[str, Any]:
    margin = evidence.margins.effect
    return {
        "change": words.CHANGES[one.change][0],
        "fill": words.FILLS.get(one.kind, visible(one.kind)),
        "shown_only": one.change == "background" and one.kind not in CONVICTING,
        "probability": one.probability,
        "control": one.control,
        "effect": round(one.effect, 2) + 0.0,  # no minus zero
        "beyond": one.effect >= margin,
        "bar": min(max(one.effect, 0.0), 1.0),
        "flips": pages.percent(one.flips, 0),
        "control_flips": pages.percent(one.control_flips, 0),
        "pictures": one.pictures,
    }


def _groups(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The changed pictures of each change, beside their controls."""
    groups = []
    for change, controls in CONTROLS.items():
        changed = [each for each in outcomes if each.change == change]
        if changed:
            title, control = words.CHANGES[change]
            same = [_outcome(each) for each in outcomes if each.change in controls]
            groups.append({"title": title, "control": control, "changed": list(map(_outcome, changed)), "same": same})
    return groups


def _outcome(one: Outcome) -> dict[str, Any]:
    return {
        "picture": drawing.thumb(one.picture),
        "fill": words.fill_of(one),
        "probability": one.probability,
        "predicted": visible(one.predicted, 40),
        "flipped": one.flipped,
    }


def _record(evidence: PredictionEvidence, case: Case, record: str) -> list[tuple[str, str]]:
    source = evidence.source
    values: dict[str, Any] = {
        "Predicted by": source.name,
        "Version": source.version,
        "Digest of the weights": source.digest or "not known",
        "Kind of source": words.SOURCES[source.kind],
        "Decided by": case.service,
        "Decided": case.when,
        "Audited": told(case.audited),
        "Image": case.image,
        "SHA-256 of the image's file": case.digest or "not known",
        "SHA-256 of the pixels that the model saw": digest_of(evidence.picture),
        "SHA-256 of the object's mask": digest_of(evidence.mask),
        "Data set": case.dataset,
        "Where the object is": words.REGIONS[evidence.mask_source],
        "Maps from": evidence.maps_from,
        "Margins, fixed beforehand": asdict(evidence.margins),
        "Options": {} if case.options is None else _options(case),
        "Seed": evidence.seed,
        "SHA-256 of record.json": record,
    }
    return [(name, visible(text, 300)) for name, text in pages.rows(values, {each: each for each in values})]


def _options(case: Case) -> dict[str, Any]:
    options = asdict(case.options) if case.options is not None else {}
    return {name.replace("_", " "): value for name, value in options.items() if name not in ("margins", "seed")}


def digest_of(values: np.ndarray) -> str:
    """SHA-256 of an array's values, row by row, in hex."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
