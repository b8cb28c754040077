"""Renders scenes with exact label maps: animals, fruit and flowers made of ellipsoids, with textures, light and shadow.

    python examples/rendered/scenes.py rendered/ --count 2000        # a data set: images/, masks/, classes.txt

No picture of anything goes in. Every scene depends on its seed and its number alone. An object is a set of ellipsoids
in relief: the highest one at a point gives colour and surface normal there, so that light falls on it as on a body.
Objects are painted from back to front, each with the shadow that it throws; the label map holds what is in front.
Everything is drawn at twice the size: a pixel has the class that most of its four parts have, of equals an object's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from things import EARTH, GREENS, MAKERS, PETALS, SKINS, Thing, vary

CLASSES = ("background", "animal", "fruit", "flower")
_FINE = 2  # times as many pixels along an edge while drawing


def render(seed: int, number: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """One scene.

    Args:
        seed: Of all scenes.
        number: Of this one.
        size: Pixels along each edge.

    Returns:
        (size, size, 3) uint8, and (size, size) uint8, indices of CLASSES.
    """
    chance = np.random.default_rng((seed, number))
    edge = size * _FINE
    light = _unit(np.array([chance.uniform(-1, 1), chance.uniform(-1, 0.4), chance.uniform(0.5, 1.5)]))
    picture, labels = background(chance, edge), np.zeros((edge, edge), np.uint8)
    for _ in range(chance.integers(0, 4)):
        _clutter(chance, picture)
    for _ in range(chance.choice((1, 2, 3), p=(0.4, 0.35, 0.25))):
        kind = int(chance.integers(1, len(CLASSES)))
        colours, shown = _drawn(chance, MAKERS[kind](chance), edge, light)
        _shade(chance, picture, shown, light)
        picture[shown] = colours[shown]
        labels[shown] = kind
    return _developed(chance, picture, size), _reduced(labels)


def background(chance: np.random.Generator, edge: int) -> np.ndarray:
    """(edge, edge, 3) float, 0 to 255: a texture of two to three colours."""
    palette = [GREENS, EARTH, EARTH, SKINS + PETALS][chance.integers(4)]
    first, second, third = (vary(chance, palette[chance.integers(len(palette))], 30) for _ in range(3))
    kind = chance.integers(5)
    if kind == 0:
        field = noise(chance, edge, chance.uniform(2, 10), 5)
    elif kind == 1:  # planks, stripes, blades
        angle, width = chance.uniform(0, np.pi), chance.uniform(3, 30) * edge / 192
        y, x = np.mgrid[:edge, :edge]
        along = x * np.cos(angle) + y * np.sin(angle) + 12 * noise(chance, edge, 3, 3)
        field = 0.5 * np.sin(2 * np.pi * along / width) + 0.5 * noise(chance, edge, 12, 3)
    elif kind == 2:  # bricks, tiles
        high, wide = (chance.uniform(16, 60) * edge / 192 for _ in range(2))
        y, x = np.mgrid[:edge, :edge]
        row = y // high
        joint = np.minimum(y % high, (x + row * wide / 2) % wide) < 3 * edge / 192
        each = chance.uniform(-1, 1, (64, 64))
        field = each[row.astype(int) % 64, ((x + row * wide / 2) // wide).astype(int) % 64]
        field = np.where(joint, -2.0, field + 0.5 * noise(chance, edge, 20, 3))
    elif kind == 3:  # leaves, pebbles: many small patches
        field = np.zeros((edge, edge))
        y, x = np.mgrid[:edge, :edge]
        for _ in range(60):
            a, b = chance.uniform(4, 20, 2) * edge / 192
            u, v = _turned(x - chance.uniform(0, edge), y - chance.uniform(0, edge), chance.uniform(0, np.pi))
            inside = (u / a) ** 2 + (v / b) ** 2
            field = np.where(inside < 1, chance.uniform(-1.5, 1.5) + 0.6 * (1 - inside), field)
        field += 0.3 * noise(chance, edge, 20, 3)
    else:  # soft, as out of focus
        field = noise(chance, edge, chance.uniform(1, 4), 2)
    share = np.clip(0.5 + 0.4 * field, 0, 1)[..., None]
    other = np.clip(0.5 + 0.5 * noise(chance, edge, 4, 3), 0, 1)[..., None] * chance.uniform(0, 1)
    colour = (first * share + second * (1 - share)) * (1 - other) + third * other
    return colour * (1 + chance.uniform(0, 0.25) * noise(chance, edge, edge / 3, 2)[..., None])


def noise(chance: np.random.Generator, edge: int, cells: float, octaves: int) -> np.ndarray:
    """(edge, edge) of mean 0 and deviation 1, about: grids of chance, enlarged and added up, each finer and weaker."""
    total, weights = np.zeros((edge, edge)), 0.0
    for octave in range(octaves):
        count = max(2, min(edge, int(cells * 2**octave)))
        grid = Image.fromarray(chance.standard_normal((count + 1, count + 1)).astype(np.float32))
        total += np.asarray(grid.resize((edge, edge), Image.Resampling.BICUBIC)) * 0.6**octave
        weights += 0.36**octave
    return total / np.sqrt(weights)


def _drawn(chance: np.random.Generator, thing: Thing, edge: int, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(edge, edge, 3) of colours, and (edge, edge) of bool: an object at a place, of a size and turned, by chance."""
    scale = chance.uniform(0.17, 0.4) * edge
    middle = chance.uniform(0.2, 0.8, 2) * edge
    y, x = np.mgrid[:edge, :edge].astype(np.float32)
    x, y = _turned((x - middle[0]) / scale, (y - middle[1]) / scale, chance.uniform(-0.35, 0.35))
    x = -x if chance.random() < 0.5 else x
    height, colour = np.full((edge, edge), -1.0, np.float32), np.zeros((edge, edge), int)
    for part in thing.parts:
        u, v = _turned(x - part.x, y - part.y, part.angle)
        inside = 1 - (u / part.a) ** 2 - (v / part.b) ** 2
        rise = np.where(inside > 0, np.sqrt(np.maximum(inside, 0)) * min(part.a, part.b) * part.rise, -1)
        above = rise > height
        height[above], colour[above] = rise[above], part.colour
    shown = height >= 0
    rough = noise(chance, edge, edge / 6, 3)
    relief = np.where(shown, height, 0) + 0.03 * thing.grain * rough
    dy, dx = np.gradient(relief, 1 / scale)
    normal = np.stack([-dx, -dy, np.ones_like(dx)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    bright = chance.uniform(0.3, 0.6) + chance.uniform(0.5, 0.9) * np.clip(normal @ light, 0, None)
    shine = np.clip(normal @ _unit(light + np.array([0, 0, 1])), 0, None) ** chance.uniform(10, 50)
    base = np.array(thing.colours)[colour]
    base = base * (1 + 0.5 * thing.grain * rough[..., None])
    if thing.pattern:
        at = (
            noise(chance, edge, chance.uniform(5, 14), 2)
            if thing.pattern == "spots"
            else np.sin(x * chance.uniform(8, 25) + 1.5 * noise(chance, edge, 4, 2))
        )
        base = np.where((at > 0.5)[..., None], base * chance.uniform(0.2, 1.8), base)
    return np.clip(base, 0, 255) * bright[..., None] + 255 * thing.gloss * shine[..., None], shown


def _shade(chance: np.random.Generator, picture: np.ndarray, shown: np.ndarray, light: np.ndarray) -> None:
    """Darkens what lies behind an object, away from the light."""
    reach = chance.uniform(2, 16) * len(picture) / 192
    shift = np.rint(-light[:2] / light[2] * reach).astype(int)
    moved = np.roll(shown, (shift[1], shift[0]), (0, 1)).astype(np.uint8) * 255
    soft = Image.fromarray(moved).filter(ImageFilter.GaussianBlur(chance.uniform(1, 8) * len(picture) / 192))
    picture *= 1 - chance.uniform(0, 0.6) * np.asarray(soft)[..., None] / 255


def _clutter(chance: np.random.Generator, picture: np.ndarray) -> None:
    """A flat patch with straight edges: not everything that stands out is an object."""
    edge = len(picture)
    y, x = np.mgrid[:edge, :edge]
    u, v = _turned(x - chance.uniform(0, edge), y - chance.uniform(0, edge), chance.uniform(0, np.pi))
    a, b = chance.uniform(0.02, 0.25, 2) * edge
    inside = (abs(u) < a) & (abs(v) < b)
    colour = vary(chance, (EARTH + GREENS + SKINS)[chance.integers(20)], 40)
    picture[inside] = colour * (1 + 0.15 * noise(chance, edge, edge / 8, 3)[inside][:, None])


def _developed(chance: np.random.Generator, picture: np.ndarray, size: int) -> np.ndarray:
    """As a camera would: exposure, a cast of colour, a little blur, grain."""
    picture = picture * chance.uniform(0.7, 1.25) * chance.uniform(0.9, 1.1, 3)
    whole = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    whole = whole.filter(ImageFilter.GaussianBlur(chance.uniform(0, 1.2))).resize((size, size), Image.Resampling.BOX)
    grain = chance.standard_normal((size, size, 3)) * chance.uniform(0, 9)
    return np.clip(np.asarray(whole) + grain, 0, 255).astype(np.uint8)


def _reduced(labels: np.ndarray) -> np.ndarray:
    """Of each two by two pixels, the class that most have; of equals that which is not the background."""
    size = len(labels) // _FINE
    parts = labels.reshape(size, _FINE, size, _FINE).transpose(0, 2, 1, 3).reshape(size, size, -1)
    counts = np.stack([(parts == k).sum(-1) for k in range(len(CLASSES))], -1)
    counts[..., 1:] = counts[..., 1:] * 2 + (counts[..., 1:] > 0)
    counts[..., 0] *= 2
    return counts.argmax(-1).astype(np.uint8)


def _turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=96, help="pixels along each edge")
    asked = parser.parse_args()
    for name in ("images", "masks"):
        (asked.folder / name).mkdir(parents=True, exist_ok=True)
    (asked.folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for number in range(asked.count):
        picture, labels = render(asked.seed, number, asked.size)
        Image.fromarray(picture).save(asked.folder / "images" / f"{number:05}.png")
        Image.fromarray(labels).save(asked.folder / "masks" / f"{number:05}.png")
    print(f"{asked.count} scenes in {asked.folder}")


if __name__ == "__main__":
    main()
