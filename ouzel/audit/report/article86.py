"""A page for the person that a decision is about: what the computer system did, in plain words.

References:
    Regulation (EU) 2024/1689 (AI Act), Article 86: the role of the AI system in the decision-making procedure and the
    main elements of the decision taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from ouzel import pages
from ouzel.audit.dataset.rows import ImageRow
from ouzel.audit.evidence import Effect, Outcome, PredictionEvidence
from ouzel.audit.report import drawing
from ouzel.audit.report.case import Case, told
from ouzel.audit.source import Source
from ouzel.audit.verdict import deciding
from ouzel.errors import InvalidArgument
from ouzel.pages.texts import visible

_NO_CASE = Case()
_LABEL, _TEXT = 60, 500  # characters


def article86_page(
    evidence: PredictionEvidence | ImageRow, case: Case = _NO_CASE, *, source: Source | None = None
) -> str:
    """The audit of one prediction for the person concerned, at most two screens long.

    Args:
        evidence: Of `audit_prediction`, or a row of a data set's audit, of which there are no pictures.
        case: What else is known of the decision; the operator's texts are shown.
        source: Whose prediction it is; needed where `evidence` is a row.

    Returns:
        HTML that needs nothing from elsewhere and runs no script.

    Raises:
        InvalidArgument: A row comes without its source.
    """
    whole = evidence if isinstance(evidence, PredictionEvidence) else None
    if isinstance(evidence, PredictionEvidence):
        source, claimed = evidence.source, evidence.agreement.claimed.label
    elif source is None:
        raise InvalidArgument("source: a row does not say whose prediction it is", field="source")
    else:
        claimed = evidence.claimed
    asked = source.kind != "table"
    return pages.render(
        "audit_article86.html",
        title="How this decision was made",
        image=visible(case.image or getattr(evidence, "name", ""), _LABEL),
        label=visible(claimed, _LABEL),
        decided=told(case.decided),
        stated=visible(case.stated or getattr(evidence, "time", ""), _LABEL),
        audited=told(case.audited),
        system=_system(source, case),
        role=visible(case.operator.role, _TEXT),
        answer=_answer(evidence, asked),
        checked=_checked(evidence),
        asked=asked,
        pictures=[] if whole is None else _pictures(whole),
        found=_found(evidence, asked),
        warning=evidence.concern,
        sure=_sure(evidence, asked),
        organisation=visible(case.operator.organisation, _TEXT),
        contact=visible(case.operator.contact, _TEXT),
    )


def _system(source: Source, case: Case) -> str:
    name = " ".join(visible(each, _LABEL) for each in (source.name, source.version) if each)
    service = visible(case.service, _LABEL)
    return f"{service} ({name})" if service and name and name != service else service or name


def points(probability: float) -> str:
    """A probability as points of 100."""
    rounded = round(100 * probability)
    return "less than 1 point" if rounded == 0 else "1 point" if rounded == 1 else f"{rounded} points"


def _answer(evidence: PredictionEvidence | ImageRow, asked: bool) -> str:
    if not asked:
        return "We could not ask the system. We have only its recorded answer."
    if isinstance(evidence, ImageRow):
        predicted, claimed = (visible(each, _LABEL) for each in (evidence.predicted, evidence.claimed))
        if not predicted:
            return "We could not ask the system about this image."
        known = "" if evidence.probability is None else f" It gave “{claimed}” {points(evidence.probability)}."
        return f"For this image the system says “{predicted}”.{known}"
    agreement = evidence.agreement
    claimed, predicted, rival = (
        visible(each.label, _LABEL) for each in (agreement.claimed, agreement.predicted, agreement.rival)
    )
    if agreement.agrees:
        return (
            f"For this image the system gave “{claimed}” {points(agreement.claimed.probability)}. The next best answer "
            f"was “{rival}”. It got {points(agreement.rival.probability)}."
        )
    return (
        f"When we asked it, the system gave another answer: “{predicted}”, with "
        f"{points(agreement.predicted.probability)}. “{claimed}” got {points(agreement.claimed.probability)}."
    )


def _checked(evidence: PredictionEvidence | ImageRow) -> str:
    if isinstance(evidence, PredictionEvidence):
        return f"We made {len(evidence.outcomes)} changed copies of the image."
    return "We made changed copies of the image." if evidence.effects else ""


def _found(evidence: PredictionEvidence | ImageRow, asked: bool) -> list[str]:
    behind, before = deciding(evidence.effects)
    claimed = evidence.agreement.claimed.label if isinstance(evidence, PredictionEvidence) else evidence.claimed
    label = visible(claimed, _LABEL)
    verdict = evidence.verdict
    if verdict == "refused":
        return ["This image could not be checked."]
    if isinstance(evidence, ImageRow) and not asked:
        return _compared(evidence)
    if verdict == "disagrees":
        return [
            f"The decision and the system do not agree. The decision says “{label}”. The system, asked again, does not."
        ]
    lines = {
        "rests_on_object": "The answer depends mainly on the object in the image. What is behind the object matters "
        "much less.",
        "rests_on_background": "The answer depends mainly on what is behind the object. The object itself matters much "
        "less.",
        "inconclusive": "The check has no clear result. We cannot say which part of the image the answer depends on.",
    }
    said = [lines[verdict]]
    if verdict == "rests_on_background":
        said.append(
            "The system may have the right answer for the wrong reason."
            if evidence.concern
            else "The answer is the name of a place. So this is what you would expect."
        )
    for one, what in ((behind, "what is behind the object"), (before, "the object")):
        if one is not None:
            said.append(
                f"When {what} was changed, “{label}” got {points(one.probability)}. The copies to compare got "
                f"{points(one.control)}."
            )
    return said


def _compared(row: ImageRow) -> list[str]:
    """What the check of a recorded answer shows."""
    claimed, true, other = (visible(each or "", _LABEL) for each in (row.claimed, row.true_label, row.surrogate))
    said = []
    if true:
        fits = "That fits the decision." if row.true_label == row.claimed else f"The decision says “{claimed}”."
        said.append(f"The image is known to show “{true}”. {fits}")
    if other:
        said.append(f"We asked another system. It says “{other}”. It may be wrong, too.")
    if not said:
        said.append("The check has no result.")
    return [*said, "We cannot say which part of the image the answer depends on."]


def _sure(evidence: PredictionEvidence | ImageRow, asked: bool) -> list[str]:
    lines = []
    if not asked:
        return ["We could not ask the system that made the decision. That makes the check weak."]
    if isinstance(evidence, PredictionEvidence):
        share = round(100 * evidence.margins.effect)
        lines.append(
            f"We fixed the rule before the check. A change counts if it takes away {share} of every 100 points that "
            "the copies to compare got."
        )
        if evidence.source.kind == "callable":
            lines.append("The owner of the system told us its answers. We did not see the system ourselves.")
    else:
        lines.append("The rule for the result was fixed before the check.")
    if evidence.verdict == "inconclusive":
        lines.append("By this rule, the result is open.")
    elif evidence.verdict.startswith("rests"):
        lines.append("By this rule, the result is clear for this image.")
    if evidence.mask_source == "mask":
        lines.append("We knew exactly where the object is.")
    elif evidence.mask_source == "boxes":
        lines.append("We knew roughly where the object is.")
    elif evidence.mask_source == "nominated":
        lines.append("Nobody told us where the object is. That makes the check weaker.")
    return lines


def _pictures(evidence: PredictionEvidence) -> list[tuple[str, str]]:
    """The image and an example of each change, with what it got."""
    label = visible(evidence.agreement.claimed.label, 40)
    part = "the part that seems to matter" if evidence.mask_source == "nominated" else "the object"
    shown = [
        (
            pages.photo(drawing.outlined(evidence.picture, evidence.mask)),
            f"The image. A line marks {part}. “{label}”: {points(evidence.agreement.claimed.probability)}.",
        )
    ]
    for strongest, words in zip(
        deciding(evidence.effects), ("Behind the object changed.", "The object changed."), strict=True
    ):
        if strongest is not None and (one := example(evidence.outcomes, strongest)) is not None:
            shown.append((drawing.thumb(one.picture), f"{words} “{label}”: {points(one.probability)}."))
    return shown


def example(outcomes: Sequence[Outcome], effect: Effect) -> Outcome | None:
    """The picture of a change that is nearest to its mean: neither the best nor the worst; None without one."""
    some = [each for each in outcomes if (each.change, each.kind) == (effect.change, effect.kind)]
    return min(some, key=lambda each: abs(each.probability - effect.probability), default=None)
