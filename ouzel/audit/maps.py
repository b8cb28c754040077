"""Saliency maps of an audited picture: from a model of ours, or from nothing but the answers of a service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from ouzel import models
from ouzel.audit.predictor import ModelPredictor, Predictor
from ouzel.checks import one_of
from ouzel.errors import FailedPrecondition
from ouzel.saliency import Contrast, Explainer, Saliency, Target
from ouzel.saliency.request import METHODS

FALLBACK = "gradient"  # for networks that a method does not fit
_GRID = 7  # places of the occluding window along each edge
OCCLUSIONS = _GRID * _GRID + 1  # pictures that `AnswerMaps` shows: each place once, and the picture as it is


@dataclass(frozen=True, eq=False)
class Drawn:
    """A map as it was made.

    Attributes:
        of: "claim", "rival" or "contrast" (claim minus rival).
        method: Of the map.
        values: (H, W) float32.
        caveats: What a reader must know.
    """

    of: str
    method: str
    values: np.ndarray
    caveats: tuple[str, ...]


class Maps(Protocol):
    """Gives maps of a picture."""

    @property
    def told(self) -> str:
        """Where the maps come from, for people."""

    def __call__(self, picture: np.ndarray, claim: int, rival: int) -> Sequence[Drawn]:
        """Make the maps.

        Args:
            picture: (H, W, 3) uint8.
            claim: Index of the claimed class.
            rival: Index of its rival.

        Returns:
            The maps of the claim, the rival and the contrast, in this order; fewer where a surrogate does not know a
            class, and none if it does not know the claimed one.
        """


class ModelMaps:
    """Maps of a model of ours, which may stand in for one that cannot be looked into.

    Args:
        model: That takes images.
        labels: Of the audited model; classes are matched by them.
        method: Name of a saliency method.
        surrogate: Whether another model than this one is audited.
        explainer: Of this model, which `ModelPredictor` can share; None makes one, which takes seconds.

    Raises:
        InvalidArgument: There is no such method.
    """

    def __init__(
        self,
        model: models.Model,
        labels: Sequence[str],
        method: str,
        *,
        surrogate: bool = False,
        explainer: Explainer | None = None,
    ) -> None:
        one_of("method", method, METHODS)
        self._explainer = explainer or Explainer(model)
        self._predictor, self._method = ModelPredictor(model), method
        self._index = {label: number for number, label in enumerate(model.labels)} if surrogate else None
        self._labels, self._size, self.surrogate = labels, model.preprocessing.input_size, surrogate
        self.told = f"{model.name} {model.version} ({model.digest})" + (
            ", a surrogate: its maps say nothing certain of the audited model" if surrogate else ""
        )

    def __call__(self, picture: np.ndarray, claim: int, rival: int) -> Sequence[Drawn]:
        """See `Maps`."""
        classes = [self._class(each) for each in (claim, rival)]
        targets: list[tuple[str, Target]] = [
            (name, each) for name, each in zip(("claim", "rival"), classes, strict=True) if each is not None
        ]
        if classes[0] is not None and classes[1] is not None:
            targets.append(("contrast", Contrast(classes[0], classes[1])))
        if classes[0] is None:
            return ()
        x = self._predictor.normalised(_resized(picture, self._size)[None])
        method, explanation = self._method, None
        for method in dict.fromkeys((self._method, FALLBACK)):
            try:
                explanation = self._explainer(x, [Saliency(method, target=target) for _, target in targets])
                break
            except FailedPrecondition:
                if method == FALLBACK:
                    raise
        assert explanation is not None
        rows = []
        for (name, _), each in zip(targets, explanation.maps, strict=True):
            values = F.interpolate(
                each.values[:, None].float(), picture.shape[:2], mode="bilinear", align_corners=False
            )
            rows.append(Drawn(name, method, values[0, 0].cpu().numpy(), each.caveats))
        return rows

    def _class(self, index: int) -> int | None:
        return index if self._index is None else self._index.get(self._labels[index])


class AnswerMaps:
    """Maps by occlusion, from the answers of the audited model alone.

    A window of mean colour moves over the picture; the map is how much of the score it takes away.

    Args:
        predictor: Who is asked, OCCLUSIONS pictures at a time.

    References:
        Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", arXiv 1311.2901.
    """

    told = "the source's own answers"

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def __call__(self, picture: np.ndarray, claim: int, rival: int) -> Sequence[Drawn]:
        """See `Maps`."""
        rows, columns = picture.shape[:2]
        places = [(row, column) for row in range(_GRID) for column in range(_GRID)]
        covered = np.repeat(picture[None], OCCLUSIONS, axis=0)
        for number, (row, column) in enumerate(places, 1):
            top, bottom = _window(row, rows)
            left, right = _window(column, columns)
            covered[number, top:bottom, left:right] = picture.mean((0, 1)).round()
        answers = self._predictor(covered)
        caveats = (f"{_GRID} x {_GRID} places: the map shows nothing finer than that",)

        def drawn(scores: np.ndarray) -> np.ndarray:
            lost = torch.from_numpy(scores[0] - scores[1:]).reshape(1, 1, _GRID, _GRID)
            return F.interpolate(lost, (rows, columns), mode="bilinear", align_corners=False)[0, 0].float().numpy()

        scores = {
            "claim": answers[:, claim],
            "rival": answers[:, rival],
            "contrast": answers[:, claim] - answers[:, rival],
        }
        return [Drawn(name, "occlusion of answers", drawn(each), caveats) for name, each in scores.items()]


def nominate(values: np.ndarray, share: float) -> np.ndarray:
    """The region that a map marks: the highest part of its smoothed absolute values.

    Args:
        values: (H, W).
        share: Of the pixels, above 0 and below 1.

    Returns:
        (H, W) of bool.
    """
    from scipy import ndimage

    smoothed = ndimage.gaussian_filter(np.abs(values.astype(np.float64)), min(values.shape) / 32)
    count = max(1, round(share * values.size))
    region = np.zeros(values.size, dtype=bool)
    region[np.argsort(-smoothed, axis=None, kind="stable")[:count]] = True
    return region.reshape(values.shape)


def _window(place: int, edge: int) -> tuple[int, int]:
    return place * edge // _GRID, max((place + 1) * edge // _GRID, place * edge // _GRID + 1)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[:2] == size:
        return picture
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))
