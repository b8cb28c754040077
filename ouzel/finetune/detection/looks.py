"""Pictures of images with boxes, and of what a detector looked at."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ouzel import models
from ouzel.errors import OuzelError
from ouzel.finetune.data import Example
from ouzel.finetune.detection.average_precision import Objects, iou
from ouzel.finetune.detection.detected import Detected
from ouzel.finetune.detection.results import ShownBoxes
from ouzel.saliency.boxes import BoxSaliency, DetectionExplainer
from ouzel.saliency.targets import Rank
from ouzel_protos import boxes as drawing
from ouzel_protos import heatmap

SCORE = 0.3  # from which on a detection is drawn
_MOST = 20  # detections of a picture
_EDGE = 384  # pixels along the longer edge of a picture
_RIGHT = 0.5  # overlap from which on a detection is right
METHOD = "layer_cam"
SENTENCE = (
    f"Boxes: what has a score of {SCORE:g} or more, at most {_MOST}. Maps: LayerCAM, for the most probable wrong "
    "detection, or the most probable one if all are right."
)


class Looks:
    """Pictures and maps of a detector, on a device."""

    def __init__(self, made: Detected, device: torch.device) -> None:
        self._made, self._device = made, device
        self._explainer = DetectionExplainer(copy.deepcopy(made.network).to(device))

    def shown(self, number: int, rating: float) -> ShownBoxes:
        """A test image, with what is in it and what was found."""
        made = self._made
        example, there, found = made.split.test[number], made.there[number], made.found[number]
        assert found.scores is not None
        picture = _picture(example)
        shown = np.flatnonzero(found.scores >= SCORE)[:_MOST]
        looks, words = None, "nothing was found"
        if len(found.labels):
            place = _wrong(there, found)
            looks, words = self._looked(example, picture, found, place), self._words(found, place)
        return ShownBoxes(
            example.name,
            rating,
            self._drawn(picture, example, there, np.arange(len(there.labels))),
            self._drawn(picture, example, found, shown),
            looks,
            words,
        )

    def _words(self, found: Objects, place: int) -> str:
        assert found.scores is not None
        return f"{self._made.labels[int(found.labels[place])]} {found.scores[place]:.2f}"

    def _drawn(self, picture: Image.Image, example: Example, objects: Objects, places: np.ndarray) -> np.ndarray:
        scores = objects.scores
        drawn = [
            drawing.Box(
                _edges(objects, place),
                int(objects.labels[place]),
                self._made.labels[int(objects.labels[place])],
                None if scores is None else float(scores[place]),
            )
            for place in places.tolist()
        ]
        return np.asarray(drawing.draw(picture, drawn, example.size))

    @models.computing()
    def _looked(self, example: Example, picture: Image.Image, found: Objects, place: int) -> np.ndarray | None:
        """The map of a detection over the picture; None if the explainer does not find it again."""
        made = self._made
        x = made.preprocessing(models.decode(example.read(), smallest=made.preprocessing.resize))[None]
        (maps,) = self._explainer(x.to(self._device), [BoxSaliency(METHOD, Rank(place))]).maps
        if isinstance(maps, OuzelError):
            return None
        values: Tensor = maps[0].values[None].float().cpu()
        size = (picture.height, picture.width)
        whole = F.interpolate(values.reshape(1, 1, *values.shape[-2:]), size, mode="bilinear", align_corners=False)
        blended = Image.fromarray(heatmap.blend(np.asarray(picture), whole[0, 0].numpy()))
        return self._drawn(blended, example, found, np.array([place]))


def _picture(example: Example) -> Image.Image:
    picture = models.decode(example.read(), smallest=_EDGE).convert("RGB")
    share = _EDGE / max(picture.size)
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _edges(objects: Objects, place: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = objects.boxes[place].tolist()
    return left, top, right, bottom


def _wrong(there: Objects, found: Objects) -> int:
    """The first detection without an object of its class; 0 if there is none."""
    overlaps = iou(found.boxes, there.boxes) * (found.labels[:, None] == there.labels[None])
    wrong = np.flatnonzero(overlaps.max(axis=1, initial=0.0) < _RIGHT)
    return int(wrong[0]) if len(wrong) else 0
