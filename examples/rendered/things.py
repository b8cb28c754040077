"""The objects of rendered scenes: animals, fruit and flowers, each a set of ellipsoids in relief, all by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

GREENS = ((60, 110, 40), (90, 140, 60), (110, 150, 50), (40, 80, 40))
EARTH = ((120, 90, 60), (150, 130, 100), (90, 80, 70), (180, 165, 140), (70, 60, 50), (200, 195, 190))
_FUR = ((120, 80, 50), (90, 65, 45), (60, 50, 45), (30, 28, 28), (150, 130, 105), (190, 150, 100), (225, 220, 210))
_FEATHERS = (*_FUR, (60, 80, 140), (40, 120, 90), (190, 50, 40), (220, 170, 40), (100, 105, 115))
SKINS = (
    *((200, 30, 30), (225, 110, 20), (235, 190, 40), (120, 170, 50), (90, 40, 80), (150, 90, 40), (210, 180, 120)),
    *((60, 90, 30), (240, 225, 120), (170, 20, 50)),
)
PETALS = (
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


def animal(chance: np.random.Generator) -> Thing:
    """With four legs, or a bird; to the right, the object's own size is about two."""
    return _bird(chance) if chance.random() < 0.45 else _quadruped(chance)


def fruit(chance: np.random.Generator) -> Thing:
    """One to three round or long bodies, often with a stalk or a leaf."""
    skin = vary(chance, SKINS[chance.integers(len(SKINS))], 25)
    colours = (skin, vary(chance, (100, 80, 40), 20), vary(chance, GREENS[chance.integers(4)], 20))
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
    petal, middle = (vary(chance, PETALS[chance.integers(len(PETALS))], 25) for _ in range(2))
    middle = middle if chance.random() < 0.4 else vary(chance, ((225, 180, 40), (70, 45, 30))[chance.integers(2)], 20)
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


def _pattern(chance: np.random.Generator, share: float) -> str:
    return ("spots", "stripes")[chance.integers(2)] if chance.random() < share else ""


def vary(chance: np.random.Generator, colour: tuple[int, ...], by: float) -> np.ndarray:
    return np.clip(np.array(colour) + chance.normal(0, by, 3), 5, 250)


def _quadruped(chance: np.random.Generator) -> Thing:
    coat, belly = (vary(chance, _FUR[chance.integers(len(_FUR))], 20) for _ in range(2))
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
    body, wing, breast = (vary(chance, _FEATHERS[chance.integers(len(_FEATHERS))], 20) for _ in range(3))
    bill = vary(chance, ((220, 150, 40), (60, 55, 50), (190, 70, 40))[chance.integers(3)], 20)
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
