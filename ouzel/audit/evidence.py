"""What an audit of one prediction shows: the answer of `audit_prediction`, and its form as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from ouzel.audit.counterfactuals import Change
from ouzel.audit.source import Source

Verdict = Literal["rests_on_object", "rests_on_background", "disagrees", "inconclusive"]
# Whose region stands for the object.
MaskSource = Literal["mask", "boxes", "nominated"]


@dataclass(frozen=True)
class Margins:
    """What was fixed before the audit saw an answer.

    Attributes:
        effect: Share of the claimed class's probability that a change must take away beyond its control, above 0 to 1.
            It is also the least difference between the effects of background and object.
        control: Probability of the claimed class that the controls must leave, 0 to 1: below that the model does not
            cope with any change of this kind, and nothing can be told.
    """

    effect: float = 0.25
    control: float = 0.1


@dataclass(frozen=True)
class ClassScore:
    """A class, and the probability that the audited model gives it for the unchanged image."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Agreement:
    """Whether the audited model says what was claimed.

    Attributes:
        claimed: The class that was claimed.
        predicted: The class that the model predicts.
        rival: The best class other than the claimed one.
        rank: Place of the claimed class in the prediction; 0 is the best.
    """

    claimed: ClassScore
    predicted: ClassScore
    rival: ClassScore
    rank: int

    @property
    def agrees(self) -> bool:
        """Whether the claimed class is the predicted one."""
        return self.rank == 0


@dataclass(frozen=True)
class Faithfulness:
    """Whether the prediction follows the pixels that a map points at; areas under curves, in [0, 1].

    Attributes:
        deletion: Lower is better.
        insertion: Higher is better.
        random_deletion: Mean over random orders of the same picture's pixels.
        random_insertion: As `random_deletion`.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float

    @property
    def better_than_random(self) -> bool:
        """Whether the map beats random orders in both."""
        return self.deletion < self.random_deletion and self.insertion > self.random_insertion


@dataclass(frozen=True, eq=False)
class MapEvidence:
    """A saliency map of the audited picture.

    Attributes:
        of: "claim", "rival" or "contrast" (claim minus rival).
        method: Name of the saliency method; "occlusion of answers" where only predictions can be had.
        values: (H, W) float32.
        caveats: What a reader of the map must know.
        share_on_object: Share of the map's mass on the object, in [0, 1]; None without a mask.
        pointing: Whether the map's maximum is on the object, in [0, 1]; None without a mask.
        faithfulness: Of this very map; None where it was not measured.
    """

    of: str
    method: str
    values: np.ndarray
    caveats: tuple[str, ...] = ()
    share_on_object: float | None = None
    pointing: float | None = None
    faithfulness: Faithfulness | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the audited model says of a changed picture.

    Attributes:
        name: "background/grass".
        change: What was changed; see `ouzel.audit.counterfactuals`.
        kind: Of the fill.
        changed_pixels: How many.
        probability: Of the claimed class.
        predicted: Label of the predicted class.
        flipped: Whether this is not the class that the model predicts for the unchanged picture.
        picture: (H, W, 3) uint8.
    """

    name: str
    change: Change
    kind: str
    changed_pixels: int
    probability: float
    predicted: str
    flipped: bool
    picture: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Effect:
    """What a kind of change does beyond its control.

    Attributes:
        change: "background", "object" or "other_object".
        kind: Of the fill.
        probability: Mean probability of the claimed class after the change.
        control: Mean probability of the claimed class after the control.
        effect: (control - probability) / the larger of both: the share that is lost; negative if the change helps.
        flips: Share of the changed pictures whose predicted class is another.
        control_flips: Share of the controls whose predicted class is another.
        pictures: How many changed pictures.
    """

    change: Change
    kind: str
    probability: float
    control: float
    effect: float
    flips: float
    control_flips: float
    pictures: int


@dataclass(frozen=True)
class ReportedMap:
    """A saliency map that the audited service sent along, compared with ours.

    Attributes:
        rank_correlation: Spearman's, of absolute values, in [-1, 1].
        top_overlap: Share of our top 5 % of pixels that are in its top 5 %.
    """

    rank_correlation: float
    top_overlap: float


@dataclass(frozen=True)
class PredictionEvidence:
    """All that an audit of one prediction shows.

    Attributes:
        source: Whose prediction.
        maps_from: Where the maps come from: a model of ours, or the source's own answers.
        agreement: Between the claim and the model's answer now.
        mask_source: Where the object's region comes from.
        object_share: Share of the picture that the region covers.
        maps: Of the claim, the rival and the contrast.
        outcomes: One per changed picture.
        effects: One per change and kind.
        margins: That were fixed beforehand.
        verdict: In one word.
        reason: The verdict in a sentence, with its figures.
        concern: Whether somebody should act: the prediction rests on the background though its class is no scene, or
            the model does not say what was claimed.
        scene: Whether the class was declared to be a scene, which may rest on its background.
        limits: What was not shown.
        picture: (H, W, 3) uint8: what the model sees.
        mask: (H, W) of bool: the region that stands for the object.
        reported_map: Comparison with the service's own map; None if it sent none.
        seed: Of what was drawn.
    """

    source: Source
    maps_from: str
    agreement: Agreement
    mask_source: MaskSource
    object_share: float
    maps: tuple[MapEvidence, ...]
    outcomes: tuple[Outcome, ...]
    effects: tuple[Effect, ...]
    margins: Margins
    verdict: Verdict
    reason: str
    concern: bool
    scene: bool
    limits: tuple[str, ...]
    picture: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    reported_map: ReportedMap | None = None
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Everything but pixels, as values of JSON's types."""
        return {
            "source": asdict(self.source),
            "verdict": self.verdict,
            "reason": self.reason,
            "concern": self.concern,
            "scene": self.scene,
            "agreement": asdict(self.agreement) | {"agrees": self.agreement.agrees},
            "margins": asdict(self.margins),
            "mask_source": self.mask_source,
            "object_share": self.object_share,
            "maps_from": self.maps_from,
            "maps": [_plain(each) for each in self.maps],
            "effects": [asdict(each) for each in self.effects],
            "counterfactuals": [_plain(each) for each in self.outcomes],
            "reported_map": None if self.reported_map is None else asdict(self.reported_map),
            "limits": list(self.limits),
            "seed": self.seed,
        }


def _plain(value: MapEvidence | Outcome) -> Mapping[str, Any]:
    items = {name: each for name, each in vars(value).items() if not isinstance(each, np.ndarray)}
    if isinstance(value, MapEvidence):
        faithfulness = value.faithfulness
        items["faithfulness"] = None if faithfulness is None else asdict(faithfulness)
        items["caveats"] = list(value.caveats)
    return items
