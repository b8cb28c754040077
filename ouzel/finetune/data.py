"""Labelled images, and which of them are for training, for choosing, and for the figures at the end."""

from __future__ import annotations

import hashlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ouzel.errors import InvalidArgument
from ouzel.finetune.recipes import Recipe
from ouzel_protos import folders

_log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Example:
    """A labelled image.

    Attributes:
        name: Of the image, for reports.
        label: Of its class.
        sha256: Of the file, in hex.
        read: Gives the bytes of a PNG, JPEG or WebP file.
        split: One of SPLITS, or "" if that is left to `split`.
        group: Images of the same one, near duplicates say, never come to lie on two sides; "" is the image's own.
        read_mask: Gives an image of the same size, above mid-grey on the object.
        boxes: Of the object, where there is no mask: left, top, right, bottom in pixels. Of images with `size`, boxes
            of all objects, for detectors.
        background: What is behind the object, where it was replaced; "" where it is the image's own.
        read_label_map: Gives a PNG file with the class of each pixel, see `ouzel_protos.label_maps`. `label` is ""
            then, and `sha256` is that of both files together.
        box_labels: The class of each box, from 1 on, for detectors. `label` is "" then, and `sha256` is that of all.
        size: (width, height) in pixels of an image for detectors, as it is shown; (0, 0) of all others.
    """

    name: str
    label: str
    sha256: str
    read: Callable[[], bytes] = field(repr=False, compare=False)
    split: str = ""
    group: str = ""
    read_mask: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    background: str = ""
    read_label_map: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    box_labels: tuple[int, ...] = ()
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Split:
    """Examples by what they are for.

    Attributes:
        train: To learn from.
        validation: To choose by.
        test: For the figures in the result; nothing is chosen by them.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Sorted; the order of the tuned network's outputs."""
        return tuple(sorted({example.label for example in self.train}))


def from_folder(folder: str | Path, follow_links: bool = False) -> tuple[Example, ...]:
    """The images of FOLDER/LABEL/FILE or FOLDER/SPLIT/LABEL/FILE, by the rules of `ouzel_protos.folders`.

    Args:
        folder: splits are train, val and test, or what means the same ("Training", "test_set", "eval").
        follow_links: also links that lead out of the folder.

    Returns:
        The examples, sorted by name. Files that are not used are logged, with the reason.

    Raises:
        InvalidArgument: if there is no image, or the order of the folders tells no classes.
    """
    try:
        result, files = folders.read_folder(Path(folder), follow_links)
    except folders.BadFolder as error:
        raise InvalidArgument(f"data: {error}", field="data") from None
    except OSError as error:
        raise InvalidArgument(f"data: {error.filename or folder}: {error.strerror}", field="data") from None
    for name, reason in result.left_out:
        _log.warning("%r of %s is left out: %s", name, folder, reason)
    if not result.images:
        raise InvalidArgument(f"data: {folder} holds no LABEL/FILE that is {folders.FORMATS}", field="data")
    return tuple(
        Example(image.path, image.label, hashlib.sha256(path.read_bytes()).hexdigest(), path.read_bytes, image.split)
        for image in result.images
        for path in (files[image.name],)
    )


def split(examples: Sequence[Example], recipe: Recipe, seed: int = 0) -> Split:
    """Divide examples, stratified: of each class the same share. Groups stay whole.

    Args:
        examples: What they say of their split themselves is respected.
        recipe: Has the shares, `held_out` and `validation`.
        seed: Of the choice.

    Raises:
        InvalidArgument: A class has nothing to train on, or there is only one.
    """
    given = {name: [each for each in examples if each.split == name] for name in SPLITS}
    rest = [each for each in examples if not each.split]
    if not given["test"] and not rest and given["validation"]:  # two parts: the figures come from the second
        given["test"], given["validation"] = given["validation"], []
    if not given["test"]:
        given["test"], left = part(rest or given["train"], recipe.held_out, seed)
        if rest:
            rest = left
        else:
            given["train"] = left
    train = [*given["train"], *rest]
    if not given["validation"]:
        given["validation"], train = part(train, recipe.validation, seed + 1)
    parts = Split(tuple(train), tuple(given["validation"]), tuple(given["test"]))
    _check(parts)
    return parts


def split_annotated(examples: Sequence[Example], recipe: Recipe, seed: int = 0) -> Split:
    """Divide examples without labels by the shares of the recipe.

    Groups stay whole, and splits that are given are respected. With the recipe's `validation` at 0, images are kept for
    choosing only if they are given.

    Raises:
        InvalidArgument: A part has no image.
    """
    given = {name: [each for each in examples if each.split == name] for name in SPLITS}
    rest = [each for each in examples if not each.split]
    if not given["test"] and not rest and given["validation"]:  # two parts: the figures come from the second
        given["test"], given["validation"] = given["validation"], []
    train = [*given["train"], *rest]
    if not given["test"]:
        given["test"], train = part(train, recipe.held_out, seed)
    if not given["validation"] and recipe.validation:
        given["validation"], train = part(train, recipe.validation, seed + 1)
    for name, images in (("train", train), ("test", given["test"])):
        if not images:
            raise InvalidArgument(
                f"data: there is no {name} image among {len(examples)}; three are needed", field="data"
            )
    return Split(tuple(train), tuple(given["validation"]), tuple(given["test"]))


def part(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """`share` of each class, at least one image where a class has two groups, and the rest."""
    classes: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
    homes: dict[str, str] = {}  # a group with several labels counts for the first
    for each in sorted(examples, key=lambda example: example.name):
        group = each.group or each.sha256
        classes[homes.setdefault(group, each.label)][group].append(each)
    part: list[Example] = []
    rest: list[Example] = []
    for label in sorted(classes):
        groups = [classes[label][name] for name in sorted(classes[label])]
        random.Random(f"{seed} {label}").shuffle(groups)
        wanted = share * sum(map(len, groups))
        if len(groups[0]) > max(1, 2 * wanted):  # a burst of alike images, that would take most of its class along
            groups.insert(0, groups.pop(groups.index(min(groups, key=len))))
        taken = 0
        for number, together in enumerate(groups):
            left = len(groups) - number
            if left > 1 and (taken == 0 or taken + len(together) / 2 <= wanted):
                part += together
                taken += len(together)
            else:
                rest += together
    return part, rest


def _check(parts: Split) -> None:
    if len(parts.labels) < 2:
        raise InvalidArgument(
            f"data: {len(parts.labels)} class with images to train on; two are needed at least", field="data"
        )
    for name in ("validation", "test"):
        examples: Iterable[Example] = getattr(parts, name)
        if strange := {each.label for each in examples} - set(parts.labels):
            raise InvalidArgument(
                f"data: class {min(strange)!r:.80} of the {name} images has none to train on", field="data"
            )
        if not examples:
            raise InvalidArgument(f"data: there is no {name} image; each class needs three or more", field="data")
