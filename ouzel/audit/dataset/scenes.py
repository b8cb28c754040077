"""The pool of a data set: a sample of its images with known objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ouzel.audit.counterfactuals import LARGEST, SMALLEST
from ouzel.audit.dataset.design import DatasetDesign
from ouzel.audit.dataset.examples import UNREADABLE, Example
from ouzel.audit.dataset.image import written
from ouzel.audit.pool import Pool, Scene
from ouzel.audit.predictor import Predictor

_MOST = 512  # scenes: one of 384 x 384 pixels, with its mask and its backdrop, takes 1 MB


def pool_of(
    examples: Sequence[Example], predictor: Predictor, design: DatasetDesign, on_scene: Callable[[int], None]
) -> Pool:
    """Draws images of each class. Images that cannot be read, and objects that fill the picture, are passed over.

    Args:
        examples: Of the data set.
        predictor: Whose view the pictures have.
        design: Says how many.
        on_scene: Told how many have been read after each; it may raise.

    Returns:
        At most `design.pool_per_class` scenes of each class, and at most 512 of all classes together where these
        have one at least. Their labels are the true ones where they are known; a class that the
        model does not know has backgrounds, too.
    """
    classes: dict[str, list[Example]] = {}
    for example in examples:
        if example.mask is not None or len(example.boxes):
            classes.setdefault(written(predictor, example.known), []).append(example)
    share = max(1, min(design.pool_per_class, _MOST // max(len(classes), 1)))
    scenes: list[Scene] = []
    for number, label in enumerate(sorted(classes)):
        candidates, drawn = classes[label], 0
        for index in np.random.default_rng([design.seed, number]).permutation(len(candidates)):
            if drawn == share:
                break
            scene = _scene(candidates[index], label, predictor)
            if scene is not None:
                scenes.append(scene)
                drawn += 1
            on_scene(len(scenes))
    return Pool(scenes)


def _scene(example: Example, label: str, predictor: Predictor) -> Scene | None:
    try:
        picture, mask = example.seen(predictor.view)
    except UNREADABLE:
        return None
    if mask is None or not SMALLEST <= mask.mean() <= LARGEST:
        return None
    return Scene(example.name, label, picture, mask)
