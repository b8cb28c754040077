"""The audit of one image of a data set: what is kept of its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ouzel.audit.counterfactuals import LARGEST, SMALLEST
from ouzel.audit.dataset.design import DatasetDesign
from ouzel.audit.dataset.examples import UNREADABLE, Example
from ouzel.audit.dataset.flips import flips, weight
from ouzel.audit.dataset.label_errors import Answer
from ouzel.audit.dataset.rows import ImageRow, Swap
from ouzel.audit.evidence import Outcome, PredictionEvidence
from ouzel.audit.maps import Maps
from ouzel.audit.options import Claim
from ouzel.audit.pool import Pool
from ouzel.audit.prediction import audit_prediction
from ouzel.audit.predictor import Predictor
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.names import label_index
from ouzel_protos.classes import LABEL

GRID = 16  # places of a small map along each edge


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of an image.

    Attributes:
        row: Of the result.
        map: (16, 16) float16: absolute values of the claim's map, with a sum of 1; None without a map.
        answer: For the check of labels; None unless the image is held out and has a true label.
    """

    row: ImageRow
    map: np.ndarray | None = None
    answer: Answer | None = None


class Refused(Exception):
    """One image cannot be audited. The message says why."""


class ImageAudit:
    """Audits the images of a data set one by one.

    Args:
        predictor: Whose predictions are audited.
        maps: Where saliency maps come from.
        design: How they are audited.
        pool: Other images; their labels say what each of them is.
        surrogate: Another model that is asked for its opinion; None for none.
    """

    def __init__(
        self, predictor: Predictor, maps: Maps, design: DatasetDesign, pool: Pool, surrogate: Predictor | None = None
    ) -> None:
        self._predictor, self._maps, self._design, self._pool = predictor, maps, design, pool
        self._surrogate = surrogate
        self._sources = {scene.name: scene.label for scene in pool.scenes}
        self._scenes = {label_of(predictor, each) for each in design.scenes}

    def evidence(self, example: Example, *, steps: int = 0) -> PredictionEvidence:
        """All evidence of one image.

        Args:
            example: The image.
            steps: Of the curves of deletion and insertion; 0 leaves them out.

        Raises:
            OSError: The image cannot be read.
            OuzelError: As OSError; or the source does not answer.
        """
        return self._evidence(example.image(), self._claim(example), steps)

    def _claim(self, example: Example) -> Claim:
        label = label_of(self._predictor, example.label)
        return example.claim(LABEL + label, scene=label in self._scenes)

    def _evidence(self, image: Image.Image, claim: Claim, steps: int) -> PredictionEvidence:
        options = self._design.prediction(steps=steps)
        return audit_prediction(self._predictor, self._maps, image, claim, options, pool=self._pool)

    def __call__(self, example: Example) -> Kept:
        """Audits one image.

        Raises:
            Refused: The image cannot be read, the claim does not fit, or the answers cannot be used.
            OuzelError: The source does not answer.
        """
        try:
            image, claim = example.image(), self._claim(example)
        except UNREADABLE as error:
            raise Refused(str(error) or type(error).__name__) from error
        try:
            return self._kept(example, image, self._evidence(image, claim, 0))
        except (InvalidArgument, FailedPrecondition) as error:
            raise Refused(str(error)) from error

    def _kept(self, example: Example, image: Image.Image, evidence: PredictionEvidence) -> Kept:
        agreement = evidence.agreement
        known = evidence.mask_source != "nominated"
        tested = known and SMALLEST <= evidence.object_share <= LARGEST
        claim_map = next((each for each in evidence.maps if each.of == "claim"), None)
        row = replace(
            start(example, agreement.claimed.label),
            predicted=agreement.predicted.label,
            agrees=agreement.agrees,
            probability=agreement.claimed.probability,
            verdict=evidence.verdict,
            reason=evidence.reason,
            concern=evidence.concern,
            evidence=weight(evidence.effects) if agreement.agrees and known else 0.0,
            mask_source=evidence.mask_source,
            object_share=evidence.object_share,
            share_on_object=None if claim_map is None else claim_map.share_on_object,
            pointing=None if claim_map is None else claim_map.pointing,
            effects=evidence.effects,
            flips=flips(evidence.outcomes) if tested else None,
            swaps=self._swaps(evidence.outcomes) if tested else (),
        )
        if self._surrogate is not None:
            row = asked(row, self._surrogate, image)
        answer = None
        if example.held_out and example.true_label in self._predictor.labels:
            given = self._predictor.labels.index(example.true_label)
            answer = Answer.of(self._predictor(evidence.picture[None])[0], given)
        return Kept(row, None if claim_map is None else small(claim_map.values), answer)

    def _swaps(self, outcomes: Sequence[Outcome]) -> tuple[Swap, ...]:
        return tuple(
            Swap(each.change, self._sources[each.name.partition("/")[2]], each.predicted)
            for each in outcomes
            if each.kind == "scene" and each.change in ("background", "same_background")
        )


def start(example: Example, claimed: str) -> ImageRow:
    """The row of an image of which nothing is known yet."""
    return ImageRow(
        example.name,
        claimed,
        example.true_label,
        service=example.service,
        time=example.time,
        held_out=example.held_out,
    )


def refused(example: Example, reason: str) -> ImageRow:
    """The row of an image that could not be audited."""
    return replace(start(example, example.label), verdict="refused", reason=f"The image was not audited: {reason}")


def asked(row: ImageRow, surrogate: Predictor, image: Image.Image) -> ImageRow:
    """The row with what a surrogate predicts."""
    answer = surrogate(surrogate.view.picture(image)[None])[0]
    says = surrogate.labels[int(answer.argmax())]
    agrees = says == row.predicted if row.predicted in surrogate.labels else None
    return replace(row, surrogate=says, surrogate_agrees=agrees)


def label_of(predictor: Predictor, label: str) -> str:
    """The label as the model writes it. In a data set a text is a label rather than an index, if it may be either.

    Raises:
        InvalidArgument: The model has no such class.
    """
    return label if label in predictor.labels else predictor.labels[label_index(predictor.labels, label)]


def written(predictor: Predictor, label: str) -> str:
    """The label as the model writes it, or as it was given if the model has no such class."""
    try:
        return label_of(predictor, label)
    except InvalidArgument:
        return label


def small(values: np.ndarray) -> np.ndarray | None:
    """(16, 16) float16: absolute values of a map in places of the same size, with a sum of 1; None of a flat zero."""
    grey = Image.fromarray(np.abs(values).astype(np.float32))
    places = np.asarray(grey.resize((GRID, GRID), Image.Resampling.BOX), dtype=np.float64)
    total = places.sum()
    return (places / total).astype(np.float16) if np.isfinite(total) and total > 0 else None
