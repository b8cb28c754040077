"""What a new version must show before it becomes the default. All of it is fixed before the first answer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ouzel.audit.dataset import DatasetDesign, GroupMargins
from ouzel.audit.dataset.statistics import CONFIDENCE
from ouzel.checks import parameter
from ouzel_protos.recipes import GATE_DEFAULTS, GATE_LIMITS

# Of an audit of a gate. It decides by backgrounds and objects of other images, so that one kind of fill will do.
_FILLS = ("mean",)
_SHOWN = 6  # images that are shown with their changed pictures
_SEEDS = 2**31

RULES = {
    "accuracy": "Of the share of held-out images that the new version gets right, minus that of the present default, "
    "the lower end of the 95 % interval is above minus the accuracy margin. The interval combines two exact bounds "
    "(Clopper-Pearson) of the images that only one of both gets right.",
    "reliance": "An image is turned if another background changes its prediction and the control does not. Of the "
    "share of images that are turned, of those on which both versions are right, minus that of the present default, "
    "the upper end of the same interval is below the reliance margin, and not significantly more are turned (exact "
    "McNemar, two-sided, alpha).",
    "reliance of a first version": "The upper end of the 95 % interval of the share of images that another background "
    "turns, minus that of the control, is below the reliance margin.",
    "control": "The controls turn at most margins.control of the images.",
    "classes": "No class rests on its background that did not in the present default.",
}


@dataclass(frozen=True)
class GateMargins:
    """Margins of the gate.

    Attributes:
        accuracy_margin: How much less right the new version may be, as a share of the images, 0.001 to 0.5.
        reliance_margin: Share of images that backgrounds may turn beyond their control, or beyond those of the present
            default, 0.01 to 1.
        scenes: Labels of classes that are places: they may rest on their background.

    Raises:
        InvalidArgument: A margin is out of range, or `scenes` names a class twice.
    """

    accuracy_margin: float = GATE_DEFAULTS["accuracy_margin"]
    reliance_margin: float = GATE_DEFAULTS["reliance_margin"]
    scenes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in GATE_LIMITS.items():
            parameter(name, getattr(self, name), allowed)
        self.design(0)

    def design(self, seed: int) -> DatasetDesign:
        """The design of the audits, the same for all versions. seed: of all that is drawn."""
        return DatasetDesign(
            fills=_FILLS,
            margins=GroupMargins(flip=self.reliance_margin),
            scenes=self.scenes,
            clusters=False,
            suspects=_SHOWN,
            seed=seed % _SEEDS,
        )

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return asdict(self) | {"scenes": list(self.scenes)}


def fewest(margin: float) -> int:
    """How many pairs an interval needs to lie within a margin, if no pair differs."""
    return math.floor(math.log(_miss()) / math.log1p(-margin)) + 1 if margin < 1 else 1


def smallest(pairs: int) -> float:
    """The margin that so many pairs can show at best, in (0, 1]."""
    return 1 - _miss() ** (1 / pairs) if pairs else 1.0


def _miss() -> float:
    """Of each of the four bounds that make an interval."""
    return (1 - CONFIDENCE) / 4
