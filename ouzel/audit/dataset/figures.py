"""Figures of a data-set audit: shares with intervals, and tests on pairs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Rate:
    """A share of images.

    Attributes:
        count: Images that have the property.
        of: Images that were looked at; may be 0.
        low: Of the Wilson interval, 95 %; 0 where `of` is 0.
        high: As `low`; 1 where `of` is 0.
    """

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """In [0, 1]; None where `of` is 0."""
        return self.count / self.of if self.of else None

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return asdict(self) | {"share": self.share}


@dataclass(frozen=True)
class PairedTest:
    """Exact McNemar test: does a change do something to more images than its control does to the same images?

    Attributes:
        pairs: Images; each saw the change and the control.
        only_change: Images that only the change affects.
        only_control: Images that only the control affects.
        both: Images that both affect.
        neither: Images that neither affects.
        p_value: Two-sided; 1 where no image differs.
        adjusted_p: The same after Holm's correction over all tests of its family; equal to `p_value` if it is alone.
    """

    pairs: int
    only_change: int
    only_control: int
    both: int
    neither: int
    p_value: float
    adjusted_p: float

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """A change against its control, on the same images.

    Attributes:
        change: "background": another place behind the object. "object": another object, or none, in its place. Of a
            cluster "paste" or "remove".
        flips: Images whose prediction the change turns into another.
        control_flips: Images whose prediction the control turns into another.
        excess: Share of `flips` minus that of `control_flips`, in [-1, 1].
        low: Of the interval of `excess`, 95 % or more (exact bounds of the pairs that differ either way).
        high: As `low`.
        test: Of the pairs.
    """

    change: str
    flips: Rate
    control_flips: Rate
    excess: float
    low: float
    high: float
    test: PairedTest

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return asdict(self) | {
            "flips": self.flips.to_dict(),
            "control_flips": self.control_flips.to_dict(),
            "test": self.test.to_dict(),
        }
