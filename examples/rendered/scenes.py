"""Renders scenes with exact label maps: animals, fruit and flowers made of ellipsoids, with textures, light and shadow.

    python examples/rendered/scenes.py rendered/ --count 2000        # a data set: images/, masks/, classes.txt

No picture of anything goes in. Every scene depends on its seed and its number alone. An object is a set of ellipsoids
in relief: the highest one at a point gives colour and surface normal there, so that light falls on it as on a body.
Objects are painted from back to front, each with the shadow that it throws; the label map holds what is in front.
Everything is drawn at twice the size: a pixel has the class that most of its four parts have, of equals an object's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

CLASSES = ("background", "animal", "fruit", "flower")
_FINE = 2  # times as many pixels along an edge while drawing
_GREENS = ((60, 110, 40), (90, 140, 60), (110, 150, 50), (40, 80, 40))
_EARTH = ((120, 90, 60), (150, 130, 100), (90, 80, 70), (180, 165, 140), (70, 60, 50), (200, 195, 190))
_FUR = ((120, 80, 50), (90, 65, 45), (60, 50, 45), (30, 28, 28), (150, 130, 105), (190, 150, 100), (225, 220, 210))
_FEATHERS = (*_FUR, (60, 80, 140), (40, 120, 90), (190, 50, 40), (220, 170, 40), (100, 105, 115))
_SKINS = (
    *((200, 30, 30), (225, 110, 20), (235, 190, 40), (120, 170, 50), (90, 40, 80), (150, 90, 40), (210, 180, 120)),
    *((60, 90, 30), (240, 225, 120), (170, 20, 50)),
)
_PETALS = (
    *((220, 60, 120), (200, 30, 40), (240, 200, 40), (245, 240, 235), (130, 70, 180), (235, 130, 40), (90, 90, 200)),
    *((240, 150, 190), (150, 30, 70)),
)


@dataclass(frozen=True)
class Part:
    """An ellipsoid: middle and half axes in units of the object, turned by `angle`; `colour` is one of the object's."""

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0
    colour: int = 0
    rise: float = 1.0  # how far it stands out


@dataclass(frozen=True)
class Thing:
    """An object. gloss: how much it shines; grain: how rough its colours are; pattern: "", "spots" or "stripes"."""

    parts: tuple[Part, ...]
    colours: tuple[tuple[float, ...], ...]
    gloss: float
    grain: float
    pattern: str = ""


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
    palette = [_GREENS, _EARTH, _EARTH, _SKINS + _PETALS][chance.integers(4)]
    first, second, third = (_vary(chance, palette[chance.integers(len(palette))], 30) for _ in range(3))
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


def animal(chance: np.random.Generator) -> Thing:
    """With four legs, or a bird; to the right, the object's own size is about two."""
    return _bird(chance) if chance.random() < 0.45 else _quadruped(chance)


def fruit(chance: np.random.Generator) -> Thing:
    """One to three round or long bodies, often with a stalk or a leaf."""
    skin = _vary(chance, _SKINS[chance.integers(len(_SKINS))], 25)
    colours = (skin, _vary(chance, (100, 80, 40), 20), _vary(chance, _GREENS[chance.integers(4)], 20))
    kind = chance.random()
    if kind < 0.5:
        ratio = chance.uniform(0.7, 1.1)
        parts = [Part(0, 0, 0.9, 0.9 * ratio)]
        if chance.random() < 0.4:  # as a pear
            parts.append(Part(0, -0.7 * ratio, 0.5, 0.6))
    elif kind < 0.7:  # long and bent
        turn, width = chance.uniform(0, 1.4), chance.uniform(0.16, 0.4)
        steps = np.linspace(-1, 1, 7)
        parts = [
            Part(t * np.cos(turn * t / 2), turn * t * t / 2 - 0.2, 0.34, width * (1.05 - 0.5 * t * t), turn * t)
            for t in steps
        ]
    else:  # several
        count = int(chance.integers(2, 9))
        radius = 1.0 / np.sqrt(count)
        parts = [Part(*(chance.uniform(-0.7, 0.7, 2)), radius, radius * chance.uniform(0.85, 1)) for _ in range(count)]
    if chance.random() < 0.5:
        parts.append(
            Part(chance.uniform(-0.1, 0.1), -1.0, 0.06, chance.uniform(0.15, 0.5), chance.uniform(-0.4, 0.4), 1)
        )
    if chance.random() < 0.3:
        parts.append(Part(0.2, -0.8, 0.4, 0.17, chance.uniform(-0.6, 0.6), 2, 0.4))
    return Thing(tuple(parts), colours, chance.uniform(0.1, 0.9), chance.uniform(0.05, 0.35), _pattern(chance, 0.15))


def flower(chance: np.random.Generator) -> Thing:
    """Petals around a middle, seen from above or a little from the side."""
    petal, middle = (_vary(chance, _PETALS[chance.integers(len(_PETALS))], 25) for _ in range(2))
    middle = middle if chance.random() < 0.4 else _vary(chance, ((225, 180, 40), (70, 45, 30))[chance.integers(2)], 20)
    count, flat = int(chance.integers(4, 15)), chance.uniform(0.6, 1)
    length, width = chance.uniform(0.35, 0.55), chance.uniform(0.5, 1.3) * np.pi / count
    parts = []
    for ring in range(int(chance.integers(1, 4))):
        reach = 1 - 0.25 * ring
        for k in range(count):
            angle = 2 * np.pi * (k + 0.5 * ring) / count + chance.uniform(-0.1, 0.1)
            x, y = np.cos(angle) * (1 - length) * reach, np.sin(angle) * (1 - length) * reach * flat
            turned = np.arctan2(np.sin(angle) * flat, np.cos(angle))
            parts.append(
                Part(x, y, length * reach, min(width, 0.5) * reach * 0.9, turned, 2 * (k % 2), 0.3 + 0.15 * ring)
            )
    parts.append(Part(0, 0, chance.uniform(0.12, 0.35), chance.uniform(0.12, 0.35) * flat, 0, 1, 1.5))
    darker = petal * chance.uniform(0.75, 1)
    return Thing(tuple(parts), (petal, middle, darker), chance.uniform(0, 0.25), chance.uniform(0.1, 0.3))


Maker = Callable[[np.random.Generator], Thing]
MAKERS: dict[int, Maker] = {1: animal, 2: fruit, 3: flower}


def noise(chance: np.random.Generator, edge: int, cells: float, octaves: int) -> np.ndarray:
    """(edge, edge) of mean 0 and deviation 1, about: grids of chance, enlarged and added up, each finer and weaker."""
    total, weights = np.zeros((edge, edge)), 0.0
    for octave in range(octaves):
        count = max(2, min(edge, int(cells * 2**octave)))
        grid = Image.fromarray(chance.standard_normal((count + 1, count + 1)).astype(np.float32))
        total += np.asarray(grid.resize((edge, edge), Image.Resampling.BICUBIC)) * 0.6**octave
        weights += 0.36**octave
    return total / np.sqrt(weights)


def _quadruped(chance: np.random.Generator) -> Thing:
    coat, belly = (_vary(chance, _FUR[chance.integers(len(_FUR))], 20) for _ in range(2))
    colours = (coat, belly if chance.random() < 0.4 else coat * 0.9, coat * chance.uniform(0.3, 0.8))
    long, high = chance.uniform(0.55, 0.8), chance.uniform(0.25, 0.45)
    leg, thick = chance.uniform(0.15, 0.55), chance.uniform(0.05, 0.11)
    parts = [Part(0, 0, long, high, chance.uniform(-0.1, 0.1)), Part(0.1, high * 0.4, long * 0.8, high * 0.6, 0, 1)]
    for at in (-0.8, -0.62, 0.58, 0.78):
        x, swing = at * long, chance.uniform(-0.25, 0.25)
        parts += [Part(x, high * 0.5 + leg / 2, thick * 1.5, leg * 0.6, swing, 0)]
        parts += [
            Part(x - swing * leg / 2, high * 0.6 + leg, thick, leg * 0.55, swing / 2, 2 * int(chance.random() < 0.5))
        ]
    up = chance.uniform(-0.5, 0.35)  # of the head: eats, or looks up
    x, y = long + chance.uniform(0.1, 0.3), -high * 0.3 - up
    parts.append(Part((long * 0.75 + x) / 2, (y - high * 0.2) / 2, 0.15 + 0.6 * abs(up), 0.16, -np.arctan2(up, 0.35)))
    head = chance.uniform(0.17, 0.28)
    parts += [
        Part(x, y, head, head * 0.75, 0.3),
        Part(x + head * 0.8, y + head * 0.35, head * 0.6, head * 0.45, 0.3, 1),
    ]
    parts += [
        Part(x - head * 0.4, y - head * 0.8, head * 0.2, head * chance.uniform(0.3, 0.9), chance.uniform(-0.6, 0.3), 2)
    ]
    if chance.random() < 0.3:  # horns
        parts += [Part(x, y - head * 1.2, head * 0.12, head * chance.uniform(0.4, 1.1), chance.uniform(-0.8, 0.8), 2)]
    tail = chance.uniform(0.15, 0.5)
    parts.append(Part(-long - 0.05, tail * 0.4 - 0.1, 0.05 + 0.1 * chance.random(), tail, chance.uniform(-0.5, 0.9), 2))
    return Thing(tuple(parts), colours, chance.uniform(0, 0.15), chance.uniform(0.15, 0.5), _pattern(chance, 0.35))


def _bird(chance: np.random.Generator) -> Thing:
    body, wing, breast = (_vary(chance, _FEATHERS[chance.integers(len(_FEATHERS))], 20) for _ in range(3))
    bill = _vary(chance, ((220, 150, 40), (60, 55, 50), (190, 70, 40))[chance.integers(3)], 20)
    long, high, lift = chance.uniform(0.45, 0.65), chance.uniform(0.26, 0.42), chance.uniform(-0.9, 0.1)
    x, y, head = long * 0.8 + 0.05, -high * chance.uniform(0.6, 2.2), chance.uniform(0.14, 0.22)
    parts = [Part(0, 0, long, high, lift * 0.5), Part(long * 0.3, high * 0.3, long * 0.5, high * 0.6, lift, 2)]
    parts.append(Part((x + long * 0.4) / 2, y / 2, 0.14 + abs(y) * 0.4, 0.13, np.arctan2(y, x - long * 0.4)))
    parts += [
        Part(x, y, head, head * 0.9),
        Part(x + head * 1.3, y + 0.02, head * chance.uniform(0.4, 1.2), head * 0.25, 0.1, 3),
    ]
    parts.append(Part(-long * 1.2, high * 0.4 * chance.uniform(-1, 1), long * chance.uniform(0.4, 0.9), 0.1, -0.2, 1))
    if chance.random() < 0.3:  # flies
        parts.append(Part(-0.1, -high - 0.3, 0.25, 0.65, chance.uniform(-0.7, 0.7), 1))
    else:
        parts.append(Part(-long * 0.2, 0, long * 0.7, high * 0.55, 0.15, 1, 1.2))
        for at in (-0.05, 0.12):
            parts.append(Part(at, high + 0.15, 0.035, chance.uniform(0.15, 0.45), chance.uniform(-0.2, 0.2), 3))
    return Thing(
        tuple(parts),
        (body, wing, breast, bill),
        chance.uniform(0, 0.3),
        chance.uniform(0.1, 0.4),
        _pattern(chance, 0.2),
    )


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
    colour = _vary(chance, (_EARTH + _GREENS + _SKINS)[chance.integers(20)], 40)
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


def _pattern(chance: np.random.Generator, share: float) -> str:
    return ("spots", "stripes")[chance.integers(2)] if chance.random() < share else ""


def _vary(chance: np.random.Generator, colour: tuple[int, ...], by: float) -> np.ndarray:
    return np.clip(np.array(colour) + chance.normal(0, by, 3), 5, 250)


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
