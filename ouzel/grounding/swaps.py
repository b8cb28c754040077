"""Pictures of objects before other backgrounds, as images that a training takes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from ouzel.audit import Scene, View
from ouzel.audit.counterfactuals import LARGEST, SMALLEST
from ouzel.audit.dataset.examples import UNREADABLE
from ouzel.audit.pool import on_background
from ouzel.errors import InvalidArgument
from ouzel.finetune import Example, Split
from ouzel.grounding.examples import audited, has_region
from ouzel.grounding.plan import NEUTRAL, Swap, plan
from ouzel.images import original_size
from ouzel.models import Preprocessing

_FORM = "1"  # of how pictures are made: features of them are remembered by it
_BUDGET = 2**30  # bytes of scenes that are kept
_BYTES = 7  # of a scene for each pixel: picture, mask, backdrop
_COARSE = 4  # places of a neutral background along each edge


@dataclass(frozen=True)
class Swaps:
    """Makes the pictures that a repair learns from.

    Attributes:
        per_class: Pictures of each class to learn from; `validation_share` of it to choose by.
        seed: Of what is drawn.
        validation_share: As above, in (0, 1].
        on_scene: Told how many images have been read; it may raise.
    """

    per_class: int
    seed: int
    validation_share: float = 0.5
    on_scene: Callable[[int], None] = lambda _: None

    def __call__(self, split: Split, preprocessing: Preprocessing) -> Split:
        """The split with balanced pictures in place of its images for training and for choosing.

        Those for training are made of training images alone, those for choosing of validation images alone. What is
        held out is not touched.

        Args:
            split: Of the data set.
            preprocessing: Of the model that is repaired.

        Raises:
            InvalidArgument: A class has no usable image with a mask or boxes.
        """
        train = self._part(split.train, split.labels, preprocessing, self.per_class, "training")
        count = max(8, round(self.per_class * self.validation_share))
        validation = self._part(split.validation, split.labels, preprocessing, count, "validation")
        return Split(train, validation, split.test)

    def _part(
        self, images: Sequence[Example], labels: Sequence[str], preprocessing: Preprocessing, count: int, part: str
    ) -> tuple[Example, ...]:
        number = ("training", "validation").index(part)
        scenes = self._scenes(images, labels, preprocessing, count, number)
        if lacking := [label for label in labels if not scenes[label]]:
            raise InvalidArgument(
                f"dataset: class {lacking[0]!r:.80} has no {part} image with a mask or boxes from which its object can "
                "be cut out; a repair needs one of each class",
                field="dataset",
            )
        drawn = plan({label: len(scenes[label]) for label in labels}, count, (self.seed, number))
        return tuple(_example(swap, scenes, (self.seed, number, swap.number)) for swap in drawn)

    def _scenes(
        self, images: Sequence[Example], labels: Sequence[str], preprocessing: Preprocessing, count: int, number: int
    ) -> dict[str, list[_Cut]]:
        most = max(2, min(count, _BUDGET // (_BYTES * preprocessing.resize**2 * len(labels))))
        scenes: dict[str, list[_Cut]] = {label: [] for label in labels}
        for turn, label in enumerate(labels):
            candidates = [each for each in images if each.label == label and has_region(each)]
            for row in np.random.default_rng([self.seed, number, turn]).permutation(len(candidates)):
                if len(scenes[label]) == most:
                    break
                if (cut := _cut(candidates[row], preprocessing)) is not None:
                    scenes[label].append(cut)
                self.on_scene(sum(map(len, scenes.values())))
        return scenes


@dataclass(frozen=True, eq=False)
class _Cut:
    """An image whose object can be cut out. digest: of its pixels and its mask."""

    scene: Scene
    digest: str


def whole(preprocessing: Preprocessing, width: int, height: int) -> View:
    """A view of all of an image of this size, as fine as the model sees it."""
    share = preprocessing.resize / min(width, height)
    return View((round(height * share), round(width * share)), None, preprocessing.interpolation)


def _cut(image: Example, preprocessing: Preprocessing) -> _Cut | None:
    """None where it cannot be read, or the object is too small or too large."""
    shown = audited(image, held_out=False)
    try:
        view = whole(preprocessing, *original_size(shown.image()))
        picture, mask = shown.seen(view)
    except UNREADABLE:
        return None
    if mask is None or not SMALLEST <= mask.mean() <= LARGEST:
        return None
    content = f"{picture.shape}".encode() + picture.tobytes() + np.packbits(mask).tobytes()
    return _Cut(Scene(image.name, image.label, picture, mask), hashlib.sha256(content).hexdigest())


def _example(swap: Swap, scenes: Mapping[str, Sequence[_Cut]], seed: Sequence[int]) -> Example:
    cut = scenes[swap.label][swap.image]
    scene = cut.scene
    if swap.source is not None:
        behind = scenes[swap.background][swap.source]
        named, other = behind.scene.name, behind.digest
        make = partial(on_background, scene.picture, scene.mask, behind.scene)
    elif swap.background == NEUTRAL:
        named, other = NEUTRAL, f"{NEUTRAL} {list(seed)}"
        make = partial(_before_neutral, scene, tuple(seed))
    else:
        named, other = "", ""
        make = partial(_as_it_is, scene)
    digest = hashlib.sha256(f"swap {_FORM} {cut.digest} {other}".encode()).hexdigest()
    name = f"{scene.name} before {named}" if named else scene.name
    return Example(name, swap.label, digest, lambda: _png(make()), background=swap.background)


def _as_it_is(scene: Scene) -> np.ndarray:
    return scene.picture


def _before_neutral(scene: Scene, seed: Sequence[int]) -> np.ndarray:
    paint = neutral(scene.mask.shape[0], scene.mask.shape[1], seed)
    return np.where(scene.mask[..., None], scene.picture, paint)


def neutral(height: int, width: int, seed: Sequence[int]) -> np.ndarray:
    """A background that is of no class: soft spots of chance colours with fine noise, (height, width, 3) uint8.

    None of the fills of an audit: what is repaired is not taught the test.
    """
    random = np.random.default_rng([*seed, 1])
    spots = random.uniform(40, 215, 3) + random.normal(0, random.uniform(0, 45), (_COARSE, _COARSE, 3))
    coarse = Image.fromarray(spots.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    fine = np.asarray(coarse) + random.normal(0, random.uniform(0, 30), (height, width, 1))
    return fine.clip(0, 255).astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()
