"""Photographs to measure on, with the place of the object where that is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel.images import decode, original_size, scaled
from ouzel.models.preprocessing import Preprocessing
from ouzel_protos.folders import BadFolder, is_image, read_folder


@dataclass(frozen=True)
class _Box:
    """left, top, right, bottom in pixels, drawn roughly, by eye, round what goes by these labels of ImageNet."""

    edges: tuple[int, int, int, int]
    labels: frozenset[str]


# Photographs of scikit-image. The cat fills the view: a box would tell nothing.
BOXES: dict[str, _Box | None] = {
    "chelsea": None,
    "coffee": _Box((170, 15, 410, 310), frozenset({"espresso", "cup", "coffee mug"})),
    "rocket": _Box((298, 120, 342, 410), frozenset({"missile", "projectile", "space shuttle"})),
    "camera": _Box((228, 135, 410, 512), frozenset({"tripod"})),
}


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph to measure on.

    Attributes:
        name: Of its file, or in scikit-image.
        x: (C, H, W), as the model takes it.
        mask: (H, W) of bool, True on the object; None if nobody knows.
        picture: (H, W, 3) uint8, what the model sees, for people to look at.
        labels: Of classes that the mask shows; empty if it is right for every class.
    """

    name: str
    x: Tensor
    mask: Tensor | None
    picture: np.ndarray
    labels: frozenset[str] = frozenset()

    def mask_for(self, label: str) -> Tensor | None:
        """The mask, if it shows what goes by this label."""
        return self.mask if not self.labels or label in self.labels else None


def shipped(preprocessing: Preprocessing) -> tuple[Photograph, ...]:
    """Four photographs of scikit-image, three with rough boxes. Raises InvalidArgument if it is missing."""
    try:
        from skimage import data
    except ImportError as error:
        raise InvalidArgument(
            "images: the photographs come with scikit-image, which is not installed; give a folder instead",
            field="images",
        ) from error
    photographs = []
    for name, box in BOXES.items():
        image = Image.fromarray(getattr(data, name)())
        mask = None
        if box:
            mask = Image.new("L", image.size)
            mask.paste(255, box.edges)
        one = photograph(name, image, mask, preprocessing)
        photographs.append(replace(one, labels=box.labels if box else frozenset()))
    return tuple(photographs)


def from_folder(
    images: str | Path, preprocessing: Preprocessing, masks: str | Path | None = None
) -> tuple[Photograph, ...]:
    """The PNG, JPEG and WebP files of a folder, by name, or of its folders of classes: "tabby/1.jpg".

    Args:
        images: The folder.
        preprocessing: Of the model.
        masks: A folder with a picture of the same stem and size for some or all of them, above mid-grey on the object.

    Raises:
        InvalidArgument: Names the file that cannot be used.
    """
    return tuple(each_of_folder(images, preprocessing, masks))


def each_of_folder(
    images: str | Path, preprocessing: Preprocessing, masks: str | Path | None = None
) -> Iterator[Photograph]:
    """As `from_folder`, one by one: only what the caller keeps is held in memory."""
    paths = _files(images, "images") or sorted(_of_classes(images)[1].values())
    if not paths:
        raise InvalidArgument(f"images: {images} holds no PNG, JPEG or WebP file", field="images")
    known = {path.stem: path for path in _files(masks, "masks")} if masks is not None else {}
    if masks is not None and not known.keys() & {path.stem for path in paths}:
        raise InvalidArgument(f"masks: no file in {masks} has the stem of an image in {images}", field="masks")
    for path in paths:
        image = _open(path, "images", smallest=preprocessing.resize)
        mask = _open(known[path.stem], "masks") if path.stem in known else None
        yield photograph(path.relative_to(images).as_posix(), image, mask, preprocessing)


def labels_of(images: str | Path) -> dict[str, str]:
    """The classes of a folder's images, by the names that `from_folder` gives: the folders that they lie in.

    Empty where the images lie in none. Raises InvalidArgument for folders that do not tell their classes.
    """
    return {} if _files(images, "images") else _of_classes(images)[0]


def whole(name: str, folder: str | Path | None = None) -> Image.Image:
    """The photograph of that name, all of it: of a folder, or one of those that are shipped. Raises InvalidArgument."""
    if folder is not None:
        return _open(Path(folder, name), "images")
    from skimage import data

    return Image.fromarray(getattr(data, name)())


def photograph(name: str, image: Image.Image, mask: Image.Image | None, preprocessing: Preprocessing) -> Photograph:
    """One photograph as the model sees it. Raises InvalidArgument for a mask of another size, or without an object."""
    height, width = preprocessing.input_size
    size = original_size(image)
    view = preprocessing.view(*size)
    picture = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, box=scaled(view, image))
    inside = None
    if mask is not None:
        if mask.size != size:
            raise InvalidArgument(
                f"masks: the mask of {name} has {mask.width} x {mask.height} pixels, the image {size[0]} x {size[1]}",
                field="masks",
            )
        seen = mask.convert("L").resize((width, height), Image.Resampling.BILINEAR, box=view)
        inside = torch.tensor(np.asarray(seen) > 127)
        if not inside.any():
            raise InvalidArgument(
                f"masks: the mask of {name} shows nothing in the part that the model sees", field="masks"
            )
    return Photograph(name, preprocessing(image), inside, np.asarray(picture))


def _files(folder: str | Path, field: str) -> list[Path]:
    if not Path(folder).is_dir():
        raise InvalidArgument(f"{field}: {folder} is not a folder", field=field)
    entries: Iterable[Path] = Path(folder).iterdir()
    return sorted(path for path in entries if is_image(path.name))


def _of_classes(folder: str | Path) -> tuple[dict[str, str], dict[str, Path]]:
    """Labels and paths by name."""
    try:
        arrangement, files = read_folder(Path(folder))
    except BadFolder as error:
        raise InvalidArgument(f"images: {folder}: {error}", field="images") from None
    labels = {one.name: one.label for one in arrangement.images}
    return labels, {name: files[name] for name in labels}


def _open(path: Path, field: str, smallest: int | None = None) -> Image.Image:
    try:
        return decode(path.read_bytes(), smallest=smallest)
    except InvalidArgument as error:
        raise InvalidArgument(f"{field}: {path}: {error}", field=field) from None
