"""Folders of images with masks: which file is the mask of which image, and what the classes are called.

    images/[SPLIT/]PATH.jpg                                     the images
    masks/[SPLIT/]PATH.png, classes.txt                         label maps; a class in each line, from number 0 on
    masks/[SPLIT/]CLASS/PATH.png                                or a mask for each class; the rest is "background"
    annotations.json, annotations/*.json                        or COCO's polygons and runs; the rest is "background"

SPLIT may also lie above images and masks. Client, worker and library read folders, zip files and listings of other file
systems by these rules. An image without a mask and a mask without an image are refused, because one of the two is lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from ouzel_protos import annotated_folders, coco, folders, label_maps
from ouzel_protos.annotated_folders import IMAGES, Read, is_annotations, lies_in, put, refuse_lonely, splits_of, without
from ouzel_protos.folders import BadFolder
from ouzel_protos.label_maps import BACKGROUND, BadMask
from ouzel_protos.text import nfc

_MASKS = frozenset(("masks", "mask", "labels", "labelmaps", "label_maps", "segmentationclass"))
_CLASSES = "classes.txt"
_LARGEST_TEXT = 2**17  # bytes of classes.txt


@dataclass(frozen=True)
class MaskedImage:
    """An image with its label map.

    Attributes:
        path: Within the data set.
        split: "", "train", "validation" or "test".
        read: Gives the file of the image.
        read_label_map: Gives a PNG file by the rules of `label_maps`. Raises BadMask for a mask that cannot be one.
    """

    path: str
    split: str
    read: Read
    read_label_map: Read


@dataclass(frozen=True)
class MaskedImages:
    """images: sorted by path. classes: by their number. left_out: (name, reason) of every file that is not used."""

    images: tuple[MaskedImage, ...]
    classes: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass
class _Found:
    """The files by what they are; the keys of images and masks are paths without the folder of that name."""

    images: dict[str, str]
    masks: dict[str, str]
    annotations: list[str]
    classes: str
    left_out: list[tuple[str, str]]


def collect(reads: Mapping[str, Read]) -> MaskedImages:
    """Finds the mask of each image.

    Args:
        reads: What gives the content of each file, by its name: a relative path with "/" between its parts.

    Raises:
        BadFolder: The order of the files does not tell the masks or the classes, or there are images without masks.
        BadMask: The classes, or COCO's annotations, cannot be read.
    """
    found = _sorted(sorted(reads))
    if not found.images:
        raise BadFolder(f"no {folders.FORMATS} file lies in a folder images/")
    splits = splits_of(found.images)
    if found.annotations:
        if found.masks or found.classes:
            raise BadFolder(f"{found.annotations[0]!r:.200} and {found.classes or 'masks/'}: masks of two kinds")
        masks, classes = _of_coco(found, reads)
    elif found.classes:
        masks, classes = _label_maps(found, reads)
    elif found.masks:
        masks, classes = _class_masks(found, reads, bool(splits))
    else:
        raise BadFolder("there is neither masks/ nor annotations.json")
    images = [
        MaskedImage(path, splits.get(path.split("/", maxsplit=1)[0], ""), reads[name], masks[path])
        for path, name in sorted(found.images.items())
    ]
    return MaskedImages(tuple(images), label_maps.check_classes(classes), tuple(sorted(found.left_out)))


def _sorted(names: Sequence[str]) -> _Found:
    parts, left_out = annotated_folders.parts_of(names, _MASKS)
    found = _Found({}, {}, [], "", left_out)
    for name, each in parts.items():
        reason = ""
        suffix = PurePosixPath(each[-1]).suffix.lower()
        images, masks = (lies_in(each, words) for words in (IMAGES, _MASKS))
        if len(each) == 1 and each[0].lower() == _CLASSES:
            found.classes = name
        elif is_annotations(each):
            found.annotations.append(name)
        elif images and suffix in folders.SUFFIXES:
            reason = put(found.images, without(each, IMAGES), name)
        elif masks and not images and suffix == ".png":
            reason = put(found.masks, without(each, _MASKS), name)
        elif masks and not images:
            reason = "a mask that is not a PNG file: other formats change classes"
        else:
            reason = f"no {folders.FORMATS} file in images/, no PNG file in masks/"
        if reason:
            found.left_out.append((name, reason))
    return found


def _stems(images: Mapping[str, str]) -> dict[str, str]:
    """The path of each image by what its masks are called. Raises BadFolder."""
    stems: dict[str, str] = {}
    for path in images:
        stem = str(PurePosixPath(path).with_suffix(""))
        if stem in stems:
            raise BadFolder(f"{stems[stem]!r:.200} and {path!r:.200} would have the same mask")
        stems[stem] = path
    return stems


def _label_maps(found: _Found, reads: Mapping[str, Read]) -> tuple[dict[str, Read], list[str]]:
    stems = _stems(found.images)
    masks = {str(PurePosixPath(path).with_suffix("")): name for path, name in found.masks.items()}
    refuse_lonely("images without a mask", (stems[stem] for stem in stems.keys() - masks.keys()))
    refuse_lonely("masks without an image", (masks[stem] for stem in masks.keys() - stems.keys()))
    return {stems[stem]: reads[name] for stem, name in masks.items()}, _class_names(found.classes, reads)


def _class_names(name: str, reads: Mapping[str, Read]) -> list[str]:
    content = reads[name]()
    if len(content) > _LARGEST_TEXT:
        raise BadMask(f"{name!r:.200} has {len(content)} bytes, more than {_LARGEST_TEXT}")
    try:
        return [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise BadMask(f"{name!r:.200} is not text in UTF-8") from None


def _class_masks(found: _Found, reads: Mapping[str, Read], split: bool) -> tuple[dict[str, Read], list[str]]:
    stems = _stems(found.images)
    by_image: dict[str, dict[str, str]] = defaultdict(dict)
    for path, name in found.masks.items():
        parts = path.split("/")
        place = 1 if split else 0
        if len(parts) < place + 2:
            raise BadFolder(
                f"{name!r:.200} lies in no folder that names its class; label maps need {_CLASSES} beside masks/"
            )
        stem = str(PurePosixPath("/".join([*parts[:place], *parts[place + 1 :]])).with_suffix(""))
        by_image[stem][parts[place]] = name
    refuse_lonely("images without a mask", (stems[stem] for stem in stems.keys() - by_image.keys()))
    lonely = by_image.keys() - stems.keys()
    refuse_lonely("masks without an image", (name for stem in lonely for name in by_image[stem].values()))
    names = [BACKGROUND, *sorted({label for each in by_image.values() for label in each} - {BACKGROUND})]
    number = {label: index for index, label in enumerate(names)}
    made: dict[str, Read] = {}
    for stem, files in by_image.items():
        parts_of = [(number[label], name, reads[name]) for label, name in sorted(files.items())]
        made[stems[stem]] = partial(_merged, parts_of)
    return made, names


def _merged(parts: Sequence[tuple[int, str, Read]]) -> bytes:
    """One label map of masks of (class, name, content). Raises BadMask, which names the file."""
    import numpy as np

    whole: np.ndarray | None = None
    owner: np.ndarray | None = None
    for place, (label, name, read) in enumerate(parts):
        try:
            mask = label_maps.values(read(), None if whole is None else whole.shape[::-1])
        except BadMask as error:
            raise BadMask(f"{name!r:.200} {error}") from None
        values = np.unique(mask)
        if len(values) > 2 or (len(values) == 2 and values[0]):
            some = ", ".join(map(str, values[:5].tolist())) + ", ..." * (len(values) > 5)
            raise BadMask(f"{name!r:.200} has the values {some}; a mask of one class has 0 and one other")
        if whole is None or owner is None:
            whole, owner = np.zeros_like(mask), np.full(mask.shape, -1, np.int16)
        both = (mask > 0) & (owner >= 0)
        if both.any():
            y, x = (int(each) for each in np.argwhere(both)[0])
            other = parts[int(owner[y, x])][1]
            raise BadMask(f"{name!r:.200} overlaps {other!r:.200} in {int(both.sum())} pixels, as at x = {x}, y = {y}")
        whole[mask > 0], owner[mask > 0] = label, place
    assert whole is not None
    return label_maps.write(whole)


def _of_coco(found: _Found, reads: Mapping[str, Read]) -> tuple[dict[str, Read], list[str]]:
    annotated = coco.parse([(name, reads[name]()) for name in found.annotations])
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in found.images:
        by_name[PurePosixPath(path).name].append(path)
    made: dict[str, Read] = {}
    for image in annotated.images:
        name = nfc(image.file_name)
        paths = [name] if name in found.images else by_name.get(PurePosixPath(name).name, [])
        if len(paths) != 1:
            what = "no image" if not paths else f"{len(paths)} images"
            raise BadFolder(f"the annotations are of {image.file_name!r:.200}, and there are {what} of this name")
        if paths[0] in made:
            raise BadFolder(f"the annotations have {image.file_name!r:.200} twice")
        made[paths[0]] = partial(_drawn, annotated, image)
    refuse_lonely("images without annotations", found.images.keys() - made.keys())
    return made, [BACKGROUND, *annotated.classes]


def _drawn(annotated: coco.Annotations, image: coco.AnnotatedImage) -> bytes:
    return label_maps.write(coco.draw(annotated, image))
