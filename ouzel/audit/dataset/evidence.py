"""What an audit of a data set, or of a table of predictions, shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from ouzel.audit.dataset.figures import Comparison, Rate
from ouzel.audit.dataset.rows import ImageRow
from ouzel.audit.evidence import PredictionEvidence, Verdict
from ouzel.audit.source import Source

ClusterVerdict = Literal["confirmed", "cleared", "inconclusive"]


@dataclass(frozen=True)
class Group:
    """A class, or all images together.

    Attributes:
        label: Of the class, as claimed; "" for all images.
        images: All of them, those that were refused included.
        refused: Images that could not be audited.
        without_region: Audited images of which nobody knows where the object is. They are in no test.
        agreement: Audited images of which the model says what was claimed. Of a table: of which the surrogate does.
        accuracy: Audited images of which the model says what they are; of those whose true label is known.
        claim_accuracy: Images whose claim is the true label; of those whose true label is known.
        background: Replaced backgrounds against their controls; None without a pair.
        object: Replaced objects against their controls; None without a pair.
        mixed_same: Right predictions with the background of another image of the same class (ImageNet-9).
        mixed_rand: Right predictions with the background of an image of another class; of the same images.
        background_gap: Share of `mixed_same` minus that of `mixed_rand`; None without images.
        verdicts: How many images have each verdict, "refused" included.
        verdict: On the group, by the margins of the design.
        reason: In a sentence, with the figures.
        concern: Whether somebody should look at it; of all images also if one class is a concern.
        scene: Whether the class was declared to be a scene, which may rest on its background.
    """

    label: str
    images: int
    refused: int
    without_region: int
    agreement: Rate
    accuracy: Rate
    claim_accuracy: Rate
    background: Comparison | None
    object: Comparison | None
    mixed_same: Rate
    mixed_rand: Rate
    background_gap: float | None
    verdicts: Mapping[str, int]
    verdict: Verdict
    reason: str
    concern: bool
    scene: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return _plain(self)


@dataclass(frozen=True)
class Link:
    """A class whose prediction moves to another class with a background.

    Attributes:
        label: Class of the images.
        background: Class whose backgrounds were put behind them.
        becomes: Class that most of the moved predictions move to.
        comparison: `flips` are the images that become this class, `control_flips` those that do so with the background
            of another image of their own class.
        reason: In a sentence: "With the background of 'gravel' pictures, 37 of 40 'sheep' become 'goat'; ...".
    """

    label: str
    background: str
    becomes: str
    comparison: Comparison
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return _plain(self)


@dataclass(frozen=True)
class Cell:
    """Images of one class with backgrounds of one class.

    Attributes:
        label: Class of the images.
        background: Class of the backgrounds; the same one stands for "mixed-same".
        accuracy: Right predictions of the changed pictures' images.
    """

    label: str
    background: str
    accuracy: Rate

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return _plain(self)


@dataclass(frozen=True, eq=False)
class Cluster:
    """Images of one class whose maps are alike, and what happens if the marked region is moved.

    Attributes:
        label: Predicted class of the images.
        number: Within the class, from 0 on; cluster 0 is the largest.
        members: Names of the images, the most typical first.
        mean_map: (16, 16) float32: mean of the members' maps, each scaled to a sum of 1.
        region: (16, 16) of bool: what the mean map marks beyond the other clusters' mean maps.
        verdict: "confirmed": the region carries the prediction. "cleared": it does not. "inconclusive": not shown.
        reason: In a sentence, with the figures.
        pasted: The members' regions pasted on images of other classes: `flips` move to this class.
        removed: The region replaced in members: `flips` leave this class.
    """

    label: str
    number: int
    members: tuple[str, ...]
    mean_map: np.ndarray = field(repr=False)
    region: np.ndarray = field(repr=False)
    verdict: ClusterVerdict
    reason: str
    pasted: Comparison | None
    removed: Comparison | None

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types, the two small arrays included."""
        return _plain(self)


@dataclass(frozen=True)
class LabelError:
    """An image whose label the held-out probabilities contradict.

    Attributes:
        name: Of the image.
        given: Its true label, as given.
        suggested: What it seems to be.
        given_probability: Of the given label.
        suggested_probability: Of the suggested one.
        predicted: What the model predicts.
    """

    name: str
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float
    predicted: str

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return asdict(self)


@dataclass(frozen=True)
class LabelErrors:
    """Suspected label errors.

    Attributes:
        checked: Images whose label could be checked: held out, with a true label.
        suspected: By evidence, the strongest first.
        reason: What was checked, or why nothing was.
    """

    checked: int
    suspected: tuple[LabelError, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        return _plain(self)


@dataclass(frozen=True, eq=False)
class Suspect:
    """An image that is shown.

    Attributes:
        row: Of the image.
        evidence: With pictures; None of a table, or if the source did not answer a second time.
    """

    row: ImageRow
    evidence: PredictionEvidence | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types, without pictures."""
        return {"row": self.row.to_dict(), "evidence": None if self.evidence is None else self.evidence.to_dict()}


@dataclass(frozen=True, eq=False)
class DatasetEvidence:
    """All that an audit of a data set shows.

    Attributes:
        mode: "predictions": the model was asked. "table": only recorded predictions were had; weaker evidence.
        source: Whose predictions.
        maps_from: Where the maps come from.
        design: What was fixed before the first answer, as values of JSON's types.
        design_sha256: Of the design in canonical JSON (RFC 8785), in hex.
        examples_sha256: Of the names, labels and order of the images, in hex.
        overall: All images.
        classes: Groups by claimed class, in order of their labels.
        links: Classes and the backgrounds that move them, the strongest first.
        cells: Accuracy by class and background, in order of their labels.
        worst: The cell with the lowest accuracy; None if no cell has enough images.
        clusters: Of like maps, by class.
        clusters_reason: Why there are none, or what was left out; "" if all classes were clustered.
        suspects: Images that are shown, by evidence, the strongest first.
        label_errors: What the held-out probabilities say of the labels.
        rows: All images, in the given order.
        limits: What was not shown.
    """

    mode: Literal["predictions", "table"]
    source: Source
    maps_from: str
    design: Mapping[str, Any]
    design_sha256: str
    examples_sha256: str
    overall: Group
    classes: tuple[Group, ...]
    links: tuple[Link, ...]
    cells: tuple[Cell, ...]
    worst: Cell | None
    clusters: tuple[Cluster, ...]
    clusters_reason: str
    suspects: tuple[Suspect, ...]
    label_errors: LabelErrors
    rows: tuple[ImageRow, ...] = field(repr=False)
    limits: tuple[str, ...]

    @property
    def concern(self) -> bool:
        """Whether somebody should look at it.

        At a group, a link with a background of a class that is no scene, or a confirmed cluster.
        """
        scenes = {each.label for each in self.classes if each.scene}
        return (
            any(each.concern for each in (self.overall, *self.classes))
            or any(each.label not in scenes for each in self.links)
            or any(each.verdict == "confirmed" for each in self.clusters)
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but pictures, as values of JSON's types."""
        return {"concern": self.concern, **_plain(self)}


def _plain(value: Any) -> Any:
    """The fields of a result as values of JSON's types."""
    return {name: _value(each) for name, each in vars(value).items()}


def _value(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Source):
        return asdict(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_value(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value
