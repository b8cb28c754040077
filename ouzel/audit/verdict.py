"""From the answers for changed pictures to a verdict, by margins that were fixed beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ouzel.audit.counterfactuals import CONTROLS, LARGEST, SMALLEST
from ouzel.audit.evidence import Agreement, Effect, Margins, MaskSource, Outcome, Verdict

# Only a background that shows another place convicts. Blurred and plain ones look like no photograph: a network may
# fail on them although it needs nothing of the background.
CONVICTING = ("texture", "scene")


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason.

    Attributes:
        verdict: In one word.
        reason: In a sentence, with the figures.
    """

    verdict: Verdict
    reason: str


def effects(outcomes: Sequence[Outcome]) -> tuple[Effect, ...]:
    """What each change does beyond its control, by the kind of the fill.

    The control of a replaced background is the mean of all its controls. That of a replaced object has the same kind of
    fill. Changes whose control is missing are left out.
    """
    made = []
    for change, controls in CONTROLS.items():
        kinds = list(dict.fromkeys(each.kind for each in outcomes if each.change == change))
        for kind in kinds:
            changed = [each for each in outcomes if each.change == change and each.kind == kind]
            same = [
                each for each in outcomes if each.change in controls and (change == "background" or each.kind == kind)
            ]
            if same:
                made.append(_effect(changed, same))
    return tuple(made)


def _effect(changed: Sequence[Outcome], controls: Sequence[Outcome]) -> Effect:
    after, control = (fmean(each.probability for each in some) for some in (changed, controls))
    largest = max(after, control)
    return Effect(
        changed[0].change,
        changed[0].kind,
        probability=after,
        control=control,
        effect=(control - after) / largest if largest > 0 else 0.0,
        flips=fmean(each.flipped for each in changed),
        control_flips=fmean(each.flipped for each in controls),
        pictures=len(changed),
    )


def judge(
    agreement: Agreement,
    measured: Sequence[Effect],
    margins: Margins,
    *,
    mask_source: MaskSource,
    object_share: float,
) -> Judgement:
    """The verdict on one prediction.

    - `disagrees`: the model does not predict what was claimed.
    - `rests_on_background`: another place behind the object takes away more than the margin, and by the margin more
      than any change of the object does.
    - `rests_on_object`: the other way round.
    - `inconclusive`: neither; or the controls destroy the prediction, or nobody knows where the object is.

    Args:
        agreement: Between claim and model.
        measured: Of `effects`.
        margins: Fixed beforehand.
        mask_source: Where the region of the object comes from.
        object_share: Share of the picture that it covers.

    Returns:
        The verdict, and why.
    """
    claimed, predicted = agreement.claimed, agreement.predicted
    behind, before = deciding(measured)
    verdict: Verdict = "inconclusive"
    if not agreement.agrees:
        verdict = "disagrees"
        reason = (
            f"The model says {predicted.label!r} ({predicted.probability:.2f}); {claimed.label!r} has rank "
            f"{agreement.rank + 1} ({claimed.probability:.2f})."
        )
    elif behind is None or before is None:
        reason = "No background of another place, or no replaced object, has been tried."
    elif mask_source == "nominated":
        reason = (
            f"Nobody said where the object is. For the region that the map marks: {_figures(behind, before, margins)}"
        )
    elif not SMALLEST <= object_share <= LARGEST:
        reason = (
            f"The object covers {object_share:.1%} of what the model sees; a verdict needs {SMALLEST:.1%} to "
            f"{LARGEST:.0%}."
        )
    elif behind.control < margins.control:
        reason = (
            f"The control fails: with its own background rearranged the claim has a probability of "
            f"{behind.control:.2f}, less than {margins.control:g}."
        )
    else:
        reason = _figures(behind, before, margins)
        if behind.effect >= margins.effect and behind.effect - before.effect >= margins.effect:
            verdict = "rests_on_background"
        elif before.effect >= margins.effect and before.effect - behind.effect >= margins.effect:
            verdict = "rests_on_object"
        else:
            reason = f"Neither outweighs the other: {reason}"
    return Judgement(verdict, reason)


def deciding(measured: Sequence[Effect]) -> tuple[Effect | None, Effect | None]:
    """The strongest effects of a background that may convict, and of the object; None where none was tried."""
    behind = [each for each in measured if each.change == "background" and each.kind in CONVICTING]
    return _strongest(behind), _strongest([each for each in measured if each.change in ("object", "other_object")])


def _strongest(some: Sequence[Effect]) -> Effect | None:
    return max(some, key=lambda each: each.effect, default=None)


_WORDS = {
    ("background", "scene"): "replacing the background by those of other classes",
    ("background", "texture"): "replacing the background by textures",
    ("object", "blur"): "replacing the object by blurred background",
    ("object", "mean"): "replacing the object by a plain colour",
    ("object", "texture"): "replacing the object by textures",
    ("other_object", "scene"): "replacing the object by those of other classes",
}


def _figures(behind: Effect, before: Effect, margins: Margins) -> str:
    text = f"{_told(behind)}; {_told(before)}; the margin is {margins.effect:g}."
    return text[0].upper() + text[1:]


def _told(effect: Effect) -> str:
    return (
        f"{_WORDS[effect.change, effect.kind]} changes the claim's probability from {effect.control:.2f} (control) to "
        f"{effect.probability:.2f} (effect {effect.effect:+.2f})"
    )
