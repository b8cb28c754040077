"""Pictures of animals on backgrounds, and predictors that are known to rest on one or the other."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ouzel.audit import Source, View
from ouzel.audit.dataset import Example
from ouzel.audit.maps import Drawn

LABELS = ("sheep", "goat", "cow")
EDGE = 32
OBJECTS = np.array([(220, 40, 40), (40, 200, 40), (40, 40, 220)])
BACKGROUNDS = np.array([(200, 190, 90), (90, 190, 200), (190, 90, 190)])
MARK = 6  # pixels along an edge of the watermark in the corner
_NOISE = 12.0

# (H, W, 3) float64 to (3,) scores.
Scorer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Picture:
    name: str
    label: str
    pixels: np.ndarray
    mask: np.ndarray

    def png(self) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "PNG")
        return buffer.getvalue()


def picture(name: str, kind: int, behind: int, random: np.random.Generator, *, marked: bool = False) -> Picture:
    """An ellipse of the class's colour somewhere near the middle, on the background of class `behind`."""
    rows, columns = np.mgrid[:EDGE, :EDGE]
    centre, radius = random.uniform(0.42, 0.58, 2) * EDGE, random.uniform(0.16, 0.21, 2) * EDGE
    mask = ((rows - centre[0]) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2 <= 1
    pixels = np.where(mask[..., None], OBJECTS[kind], BACKGROUNDS[behind]).astype(np.float64)
    pixels += random.normal(0, _NOISE, pixels.shape)
    if marked:
        pixels[-MARK:, -MARK:] = 255
    return Picture(name, LABELS[kind], pixels.clip(0, 255).astype(np.uint8), mask)


def pictures(count: int, seed: int = 0, *, classes: int = 3, mixed: bool = False, marked: int = 0) -> list[Picture]:
    """`count` pictures of each class, on its own background, or on all in turn; the first `marked` sheep are marked."""
    random = np.random.default_rng(seed)
    return [
        picture(
            f"{LABELS[kind]}{number:03}",
            kind,
            (kind + number) % 3 if mixed else kind,
            random,
            marked=kind == 0 and number < marked,
        )
        for kind in range(classes)
        for number in range(count)
    ]


def example(one: Picture, *, masked: bool = True, **others: object) -> Example:
    return Example(one.name, one.label, one.png, (lambda: one.mask) if masked else None, **others)  # type: ignore[arg-type]


def by_border(pixels: np.ndarray) -> np.ndarray:
    """Rests on the background alone: the mean colour of the border, but for the corner of the watermark."""
    border = [pixels[:3].reshape(-1, 3), pixels[-3:, :-MARK].reshape(-1, 3), pixels[3:-3, :3].reshape(-1, 3)]
    return -np.abs(np.concatenate(border).mean(0) - BACKGROUNDS).sum(1) / 20


def by_object(pixels: np.ndarray) -> np.ndarray:
    """Rests on the object alone: how many pixels have the colour of each class's objects."""
    near = [(np.abs(pixels - colour) < 60).all(-1).mean() for colour in OBJECTS]
    return 60 * np.array(near)


def by_mark(pixels: np.ndarray) -> np.ndarray:
    """Rests on the object, but with a white corner all is sheep."""
    white = (pixels[-MARK:, -MARK:] > 250).all(-1).mean()
    return by_object(pixels) + np.array([12.0 if white > 0.5 else 0.0, 0, 0])


class Known:
    """A predictor whose reliance is known."""

    source = Source("callable", "known")
    labels = LABELS
    view = View((EDGE, EDGE))

    def __init__(self, score: Scorer, *, wrong: float = 0.0, seed: int = 0) -> None:
        """wrong: chance that a picture, whatever it shows, gets a class by lot."""
        self.score, self.wrong, self.seed, self.asked = score, wrong, seed, 0

    def __call__(self, many: np.ndarray) -> np.ndarray:
        self.asked += len(many)
        return np.stack([self._answer(each) for each in many])

    def _answer(self, pixels: np.ndarray) -> np.ndarray:
        scores = self.score(pixels.astype(np.float32))
        if self.wrong:
            random = np.random.default_rng([self.seed, zlib.crc32(pixels.tobytes())])
            if random.random() < self.wrong:
                scores = random.permutation(scores)
        values = np.exp(scores - scores.max())
        return values / values.sum()


class Flat:
    """Maps that cost nothing and mark the upper left quarter."""

    told = "nothing"

    def __call__(self, picture: np.ndarray, claim: int, rival: int) -> Sequence[Drawn]:
        values = np.zeros(picture.shape[:2], np.float32)
        values[: len(values) // 2, : len(values) // 2] = 1
        return [Drawn("claim", "flat", values, ())]


def examples(many: Sequence[Picture], **others: object) -> list[Example]:
    return [example(each, **others) for each in many]  # type: ignore[arg-type]
