"""What a fine-tuning says of its gate and of its repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ouzel_client._types.audit import Verdict


@dataclass(frozen=True)
class GateCheck:
    """One condition of the gate.

    Attributes:
        name: "accuracy", "reliance", "control" or "classes".
        passed: Whether it holds.
        reason: In a sentence, with its figures.
    """

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class GateVerdict:
    """Whether a new version may become the default: it is as right as the present one, and rests on objects.

    Attributes:
        passed: Whether all checks did.
        reason: In a sentence or two: the checks that failed, or all of them.
        against: The default that it was compared with, "NAME@VERSION"; "" for the first version of a name.
        accuracy_margin: How much less right it may have been, as a share of the images.
        reliance_margin: Share of the images that backgrounds may have turned beyond their control, or beyond those of
            the default.
        checks: All of them.
    """

    passed: bool
    reason: str
    against: str
    accuracy_margin: float
    reliance_margin: float
    checks: tuple[GateCheck, ...] = ()


@dataclass(frozen=True)
class Grounding:
    """What a network rests on, by an audit of held-out images. Shares are in [0, 1], None where nothing was tried.

    Attributes:
        verdict: "rests_on_object", "rests_on_background", "disagrees" or "inconclusive".
        accuracy: On the audited images.
        worst_group: Accuracy on the class before backgrounds of the class where it is lowest.
        background_gap: Accuracy before backgrounds of the same class minus that before those of other classes.
        reliance: Share of images that another background turns minus that of its control.
        interval: The 95 % interval of `reliance`; None as above.
    """

    verdict: Verdict
    accuracy: float | None
    worst_group: float | None
    background_gap: float | None
    reliance: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Repair:
    """A network before and after its repair, on the same images.

    Attributes:
        before: The base.
        after: The new version.
    """

    before: Grounding
    after: Grounding


def gate_of(figures: Mapping[str, Any]) -> GateVerdict | None:
    """The verdict in a summary or a lineage; None if no gate was asked."""
    gate = figures.get("gate")
    if not isinstance(gate, Mapping):
        return None
    checks = [
        GateCheck(each.get("name", ""), each.get("passed", False), each.get("reason", ""))
        for each in gate.get("checks", ())
    ]
    return GateVerdict(
        gate.get("passed", False),
        gate.get("reason", ""),
        gate.get("against", ""),
        gate.get("accuracy_margin", 0.0),
        gate.get("reliance_margin", 0.0),
        tuple(checks),
    )


def repair_of(figures: Mapping[str, Any]) -> Repair | None:
    """The figures of a repair in a summary; None if nothing was repaired."""
    repair = figures.get("repair")
    return Repair(_grounding(repair["before"]), _grounding(repair["after"])) if repair else None


def _grounding(values: Mapping[str, Any]) -> Grounding:
    low, high = values.get("reliance_low"), values.get("reliance_high")
    return Grounding(
        values.get("verdict", "inconclusive"),
        values.get("accuracy"),
        values.get("worst_group"),
        values.get("background_gap"),
        values.get("reliance"),
        None if low is None or high is None else (low, high),
    )
