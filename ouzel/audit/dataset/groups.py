"""From the rows of a data set to a verdict on each class, and on all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ouzel.audit.dataset.design import DatasetDesign
from ouzel.audit.dataset.evidence import Group
from ouzel.audit.dataset.figures import Comparison, Rate
from ouzel.audit.dataset.rows import ImageRow
from ouzel.audit.dataset.statistics import compare, corrected, decide, rate
from ouzel.audit.evidence import Verdict


def groups(
    rows: Sequence[ImageRow], design: DatasetDesign, scenes: frozenset[str] = frozenset()
) -> tuple[Group, tuple[Group, ...]]:
    """All images together, and the classes.

    Args:
        rows: Of the data set.
        design: Fixed beforehand.
        scenes: Labels of the classes that were declared to be scenes, as the rows write them.

    Returns:
        The group of all images; the groups by claimed class, in order of their labels.
    """
    classes: dict[str, list[ImageRow]] = {}
    for row in rows:
        classes.setdefault(row.claimed, []).append(row)
    drafts = [_Draft.of(label, classes[label]) for label in sorted(classes)]
    behind = corrected([each.background for each in drafts])
    before = corrected([each.object for each in drafts])
    made = [
        replace(draft, background=first, object=second)
        for draft, first, second in zip(drafts, behind, before, strict=True)
    ]
    judged = tuple(_judged(each, design, scene=each.label in scenes) for each in made)
    everything = _judged(_Draft.of("", rows), design, scene=bool(scenes) and scenes.issuperset(classes))
    return _together(everything, judged), judged


def _together(everything: Group, classes: Sequence[Group]) -> Group:
    """All images, with what their mean would hide."""
    behind = [repr(each.label) for each in classes if each.verdict == "rests_on_background" and not each.scene]
    if everything.verdict == "rests_on_object" and behind:
        reason = f"Some classes rest on their background: {', '.join(behind)}. Of all together: {everything.reason}"
        everything = replace(everything, verdict="inconclusive", reason=reason)
    return replace(everything, concern=everything.concern or any(each.concern for each in classes))


@dataclass(frozen=True)
class _Draft:
    """A group before its verdict."""

    label: str
    rows: Sequence[ImageRow]
    agreement: Rate
    background: Comparison | None
    object: Comparison | None

    @classmethod
    def of(cls, label: str, rows: Sequence[ImageRow]) -> _Draft:
        audited = [each for each in rows if each.verdict != "refused"]
        tried = [each.flips for each in audited if each.flips is not None and each.agrees]
        return cls(
            label,
            rows,
            rate(sum(each.agrees for each in audited), len(audited)),
            compare("background", [each.background for each in tried], [each.background_control for each in tried]),
            compare("object", [each.object for each in tried], [each.object_control for each in tried]),
        )


def _judged(draft: _Draft, design: DatasetDesign, *, scene: bool) -> Group:
    rows = draft.rows
    audited = [each for each in rows if each.verdict != "refused"]
    true = [each for each in audited if each.true_label is not None]
    same, other = mixed(audited)
    verdict, reason = _verdict(draft, design)
    return Group(
        label=draft.label,
        images=len(rows),
        refused=len(rows) - len(audited),
        without_region=sum(each.mask_source == "nominated" for each in audited),
        agreement=draft.agreement,
        accuracy=rate(sum(each.predicted == each.true_label for each in true), len(true)),
        claim_accuracy=rate(sum(each.claimed == each.true_label for each in true), len(true)),
        background=draft.background,
        object=draft.object,
        mixed_same=same,
        mixed_rand=other,
        background_gap=same.count / same.of - other.count / other.of if same.of else None,
        verdicts=dict(sorted(Counter(each.verdict for each in rows).items())),
        verdict=verdict,
        reason=reason,
        concern=verdict == "disagrees" or (verdict == "rests_on_background" and not scene),
        scene=scene,
    )


def mixed(rows: Sequence[ImageRow]) -> tuple[Rate, Rate]:
    """Right predictions on mixed-same and mixed-rand backgrounds, as in ImageNet-9.

    Each image counts once, with the first background of each sort that was drawn for it. Images that are not what was
    claimed are left out: the backgrounds were drawn for the claim. "mixed-rand" is of other classes alone.

    Args:
        rows: That were audited.

    Returns:
        Of the same images: with the background of another image of the class, and of an image of another class.
    """
    pairs = []
    for row in rows:
        first = {swap.change: swap.predicted == row.label for swap in reversed(row.swaps)}
        if row.label == row.claimed and {"background", "same_background"} <= first.keys():
            pairs.append((first["same_background"], first["background"]))
    return rate(sum(same for same, _ in pairs), len(pairs)), rate(sum(other for _, other in pairs), len(pairs))


def _verdict(draft: _Draft, design: DatasetDesign) -> tuple[Verdict, str]:
    margins, agreement = design.margins, draft.agreement
    whose = f"of {draft.label!r}" if draft.label else "of all images"
    if agreement.of >= margins.fewest and agreement.high < margins.agreement:
        return "disagrees", (
            f"The model says what was claimed of {agreement.count} of {agreement.of} images; at most "
            f"{agreement.high:.0%} of such images (95 %), and the margin is {margins.agreement:.0%}."
        )
    behind, before = draft.background, draft.object
    if behind is None or before is None:
        return "inconclusive", (
            f"No image {whose} with a known object, of which the model says what was claimed, has been tried with both "
            "another background and another object."
        )
    if behind.test.pairs < margins.fewest:
        return "inconclusive", f"{behind.test.pairs} images {whose} were tried; a verdict needs {margins.fewest}."
    figures = f"{_told(behind, whose)}; {_told(before, whose)}; the margin is {margins.flip:.0%}."
    figures = figures[0].upper() + figures[1:]
    for each in (behind, before):
        if each.control_flips.count > margins.control * each.control_flips.of:
            return "inconclusive", (
                f"The control fails: more than {margins.control:.0%} of the predictions {whose} become others although "
                f"the evidence of the {each.change} stays. {figures}"
            )
    return _weighed(behind, before, design, figures)


def _weighed(behind: Comparison, before: Comparison, design: DatasetDesign, figures: str) -> tuple[Verdict, str]:
    margin = design.margins.flip
    decided = [decide(each, margin, design.alpha) for each in (behind, before)]
    if decided[0] == "beyond" and behind.excess - before.excess >= margin:
        return "rests_on_background", figures
    if decided == ["within", "beyond"]:
        return "rests_on_object", figures
    if decided == ["beyond", "beyond"]:
        return "inconclusive", f"Background and object both count. {figures}"
    if "open" in decided:
        return "inconclusive", f"{behind.test.pairs} images do not decide. {figures}"
    return "inconclusive", f"Neither background nor object counts alone. {figures}"


def _told(comparison: Comparison, whose: str) -> str:
    flips, control, test = comparison.flips, comparison.control_flips, comparison.test
    what = "another background" if comparison.change == "background" else "another object"
    return (
        f"{what} turns {flips.count} of {flips.of} predictions {whose}, its control {control.count} (excess "
        f"{comparison.excess:+.0%}, 95 % {comparison.low:+.0%} to {comparison.high:+.0%}, p {test.adjusted_p:.2g})"
    )
