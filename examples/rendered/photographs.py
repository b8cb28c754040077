"""Composes photographs: objects cut out by their alpha channel, on photographic textures, with label maps.

Debian's tuxpaint-stamps-default has the objects, gimp-data and mate-backgrounds have textures; scikit-image has three
more. `download` fetches and unpacks them, into a folder, without installing anything:

    python examples/rendered/photographs.py photographs/ --packages build/debs

Objects and textures are parted once: what is held out is in no scene for training.
"""

from __future__ import annotations

import argparse
import random
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scenes import CLASSES

PACKAGES = ("tuxpaint-stamps-default", "gimp-data", "mate-backgrounds")
_STAMPS, _PATTERNS = "usr/share/tuxpaint/stamps", "usr/share/gimp/2.0/patterns"
_PHOTOGRAPHS = "usr/share/backgrounds/mate/nature"
_FOLDERS = {
    "animal": ("animals/birds", "animals/mammals"),
    "fruit": ("food/fruit", "food/vegetables"),
    "flower": ("plants/flowers",),
}
_NO_PHOTOGRAPHS = ("cartoon", "toys", "plastic", "hedgehog", "echidna")  # drawings, toys, a black shape
_NOT_CUT_OUT = ("albino_peahen",)  # with the grass around it
_TEXTURES = (
    *("leather", "burlap", "java", "crinklepaper", "leaves", "sky", "Craters", "Moonfoot", "brick", "ground1"),
    *("granite1", "marble1", "marble2", "pink_marble", "rock", "slate", "stone33", "bark", "burlwood", "corkboard"),
    *("parque1", "parque2", "parque3", "walnut", "wood1", "wood3", "wood4", "wood5", "pool"),
)
_SCENERIES = ("Blinds", "Dune", "GreenMeadow", "RainDrops", "Storm", "Wood")
_OURS = ("grass", "gravel", "brick")  # of scikit-image
_SPLIT = 0  # of the seed that parts objects and textures


@dataclass(frozen=True)
class Stock:
    """What scenes are composed of. objects: RGBA, by class; textures: RGB, at least 192 pixels along an edge, each with
    the package that it is from as info["package"]."""

    objects: Mapping[str, Sequence[Image.Image]]
    textures: Sequence[Image.Image]


def download(folder: Path) -> Path:
    """Debian's packages, unpacked below the folder; those that are there are not fetched again."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        if not (folder / "usr/share/doc" / name).exists():
            subprocess.run(["apt-get", "download", name], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            (archive,) = folder.glob(f"{name}_*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
            archive.unlink()
    return folder


def stocks(packages: Path) -> tuple[Stock, Stock]:
    """For training, and held out: half of the objects of each class, and half of the textures."""
    objects: tuple[dict[str, list[Image.Image]], ...] = ({}, {})
    for label, places in _FOLDERS.items():
        halves = _halves([path for place in places for path in _stamps(packages / _STAMPS / place)])
        for half, paths in zip(objects, halves, strict=True):
            half[label] = [_cut_out(path) for path in paths]
    textures = (_texture(packages, name) for name in (*_TEXTURES, *_SCENERIES, *(f"skimage {name}" for name in _OURS)))
    first, second = _halves(list(textures))
    return Stock(objects[0], first), Stock(objects[1], second)


def compose(stock: Stock, seed: int, number: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """One scene: one to three objects on a texture, as large as those of `scenes.render`, the later ones in front.

    Returns:
        (size, size, 3) uint8, and (size, size) uint8, indices of CLASSES.
    """
    chance = np.random.default_rng((1, seed, number))
    picture = _part_of(chance, stock.textures[chance.integers(len(stock.textures))], size)
    labels = np.zeros((size, size), np.uint8)
    for _ in range(chance.choice((1, 2, 3), p=(0.4, 0.35, 0.25))):
        kind = int(chance.integers(1, len(CLASSES)))
        choice = stock.objects[CLASSES[kind]]
        image = choice[chance.integers(len(choice))]
        edge = chance.uniform(0.35, 0.8) * size
        share = edge / max(image.size)
        image = image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < 0.5 else image
        image = image.rotate(chance.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)
        middle = chance.uniform(0.2, 0.8, 2) * size
        layer = Image.new("RGBA", (size, size))
        layer.paste(image, (round(middle[0] - image.width / 2), round(middle[1] - image.height / 2)))
        pixels = np.asarray(layer).astype(np.float32)
        alpha = pixels[..., 3:] / 255
        picture = picture * (1 - alpha) + pixels[..., :3] * alpha
        labels[alpha[..., 0] >= 0.5] = kind
    return np.clip(picture, 0, 255).astype(np.uint8), labels


def _stamps(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*.png"))
    return [path for path in paths if not any(word in str(path) for word in (*_NO_PHOTOGRAPHS, *_NOT_CUT_OUT))]


def _cut_out(path: Path) -> Image.Image:
    image = Image.open(path).convert("RGBA")
    box = image.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox()
    image = image.crop(box)
    image.thumbnail((256, 256))
    return image


def _texture(packages: Path, name: str) -> Image.Image:
    if name.startswith("skimage "):
        from skimage import data

        image, package = Image.fromarray(getattr(data, name.removeprefix("skimage "))()).convert("RGB"), "scikit-image"
    elif name in _SCENERIES:
        image, package = Image.open(packages / _PHOTOGRAPHS / f"{name}.jpg").convert("RGB"), "mate-backgrounds"
        image.thumbnail((960, 960))
    else:
        (path,) = (packages / _PATTERNS).rglob(f"{name}.pat")
        image, package = _tiled(_pattern(path)), "gimp-data"
    image.info = {"package": package}
    return image


def _pattern(path: Path) -> Image.Image:
    """GIMP's file: length of the header, a version, width, height, bytes of a pixel; behind the header the pixels."""
    content = path.read_bytes()
    begin, _, width, height, depth = struct.unpack(">5I", content[:20])
    pixels = np.frombuffer(content[begin:], np.uint8)[: width * height * depth].reshape(height, width, depth)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels[..., :3], (height, width, 3))))


def _tiled(image: Image.Image) -> Image.Image:
    """GIMP's patterns go on at their edges."""
    times = [-(-192 // edge) for edge in image.size]
    return Image.fromarray(np.tile(np.asarray(image), (times[1], times[0], 1)))


def _part_of(chance: np.random.Generator, texture: Image.Image, size: int) -> np.ndarray:
    edge = round(chance.uniform(size, min(texture.size)))
    left, top = (int(chance.integers(0, whole - edge + 1)) for whole in texture.size)
    part = texture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge))
    return np.asarray(part).astype(np.float32)


def _halves(things: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    things = list(things)
    random.Random(_SPLIT).shuffle(things)
    return things[::2], things[1::2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, default=Path("build/debs"))
    parser.add_argument("--count", type=int, default=64, help="scenes for training; as many held out")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for split, stock in zip(("train", "test"), stocks(download(asked.packages)), strict=True):
        for name in ("images", "masks"):
            (asked.folder / name / split).mkdir(parents=True, exist_ok=True)
        for number in range(asked.count):
            picture, labels = compose(stock, asked.seed, number)
            Image.fromarray(picture).save(asked.folder / "images" / split / f"{number:05}.png")
            Image.fromarray(labels).save(asked.folder / "masks" / split / f"{number:05}.png")
    (asked.folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))


if __name__ == "__main__":
    main()
