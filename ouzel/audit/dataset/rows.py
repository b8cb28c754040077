"""What a data-set audit keeps of each image: a row, small enough for ten thousand of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from ouzel.audit.counterfactuals import Change
from ouzel.audit.evidence import Effect, MaskSource, Verdict

# "refused": the image could not be audited; the reason says why.
RowVerdict = Verdict | Literal["refused"]


@dataclass(frozen=True)
class Flips:
    """Whether changes turn the prediction into another class: more than half of the pictures of each sort decide.

    Attributes:
        background: Another place is behind the object.
        background_control: Its control: the place of another image of the same class, or the same place rearranged.
        object: Another object is in the place of this one, or none.
        object_control: Its control: another object of the same class, or a change of the same shape elsewhere.
    """

    background: bool
    background_control: bool
    object: bool
    object_control: bool


@dataclass(frozen=True)
class Swap:
    """What the model says when the background of another image is behind the object.

    Attributes:
        change: "background" (of another class) or "same_background".
        background: Label of the image that the background is from.
        predicted: Label that the model predicts.
    """

    change: Change
    background: str
    predicted: str


@dataclass(frozen=True)
class ImageRow:
    """One image of the data set.

    Attributes:
        name: Of the image, unique in the data set.
        claimed: The class that was claimed: the label, or the decision of a service.
        true_label: What it is, if somebody knows.
        predicted: The class that the audited model predicts; "" if refused. Of a table: as recorded.
        agrees: Whether the model predicts what was claimed. Of a table: whether the surrogate does.
        probability: Of the claimed class; None if refused or not known.
        verdict: On this image.
        reason: In a sentence, with the figures.
        concern: Whether somebody should look at it.
        evidence: By which suspects are ordered, in [-1, 1]: how much the background counts beyond the object. Of a
            table: how much more likely the surrogate finds its own class than the claimed one.
        mask_source: Whose region stands for the object; None if refused.
        object_share: Share of the picture that the region covers.
        share_on_object: Share of the map's mass on the object; None where the region is not known.
        pointing: Whether the map's maximum is on the object, in [0, 1]; None as above.
        effects: What each change does.
        flips: None where a change or its control was not possible, or nobody knows where the object is.
        swaps: Backgrounds that were tried.
        service: Who decided; "" if nobody says.
        time: When, as given.
        surrogate: What a surrogate predicts; None without one.
        surrogate_agrees: Whether that is the predicted class; None without a surrogate, or if it lacks the class.
        held_out: Whether the model has not learnt from this image.
    """

    name: str
    claimed: str
    true_label: str | None = None
    predicted: str = ""
    agrees: bool = False
    probability: float | None = None
    verdict: RowVerdict = "inconclusive"
    reason: str = ""
    concern: bool = False
    evidence: float = 0.0
    mask_source: MaskSource | None = None
    object_share: float | None = None
    share_on_object: float | None = None
    pointing: float | None = None
    effects: tuple[Effect, ...] = ()
    flips: Flips | None = None
    swaps: tuple[Swap, ...] = ()
    service: str = ""
    time: str = ""
    surrogate: str | None = None
    surrogate_agrees: bool | None = None
    held_out: bool = False

    @property
    def label(self) -> str:
        """The true label if it is known, else the claimed one."""
        return self.claimed if self.true_label is None else self.true_label

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        values = asdict(self)
        return values | {"effects": list(values["effects"]), "swaps": list(values["swaps"])}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` has put down."""
        items = dict(values)
        items["effects"] = tuple(Effect(**each) for each in values["effects"])
        items["swaps"] = tuple(Swap(**each) for each in values["swaps"])
        items["flips"] = None if values["flips"] is None else Flips(**values["flips"])
        return cls(**items)
