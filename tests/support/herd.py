"""Procedural goats on grass and sheep on gravel, and models that look at one thing only."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from ouzel import audit
from ouzel.audit.fills import texture

SIZE = 64
LABELS = ("goat", "sheep", "wolf")
_COATS = {"goat": (150, 95, 45), "sheep": (235, 232, 225), "wolf": (70, 74, 90)}
_GROUNDS = {
    "goat": ("grass", (0.75, 1.1, 0.5)),
    "sheep": ("gravel", (1.05, 1.0, 0.95)),
    "wolf": ("brick", (1.2, 0.7, 0.6)),
}


def scene(label: str, seed: int, ground: str = "", size: int = SIZE) -> audit.Scene:
    """An animal on the ground of a class, its own where none is named."""
    random = np.random.default_rng(seed)
    name, tint = _GROUNDS[ground or label]
    left, top = random.integers(0, 512 - size, 2)
    picture = Image.fromarray(
        (texture(name)[top : top + size, left : left + size] * tint).clip(0, 255).astype(np.uint8)
    )
    mask = Image.new("L", (size, size))
    x, y, s = size * random.uniform(0.25, 0.4), size * random.uniform(0.35, 0.5), size / 112
    for image, colour in ((picture, _COATS[label]), (mask, 255)):
        pen = ImageDraw.Draw(image)
        pen.ellipse((x, y, x + 46 * s, y + 26 * s), fill=colour)
        pen.ellipse((x + 36 * s, y - 14 * s, x + 56 * s, y + 8 * s), fill=colour)
        for leg in (6, 14, 30, 38):
            pen.rectangle((x + leg * s, y + 20 * s, x + (leg + 4) * s, y + 42 * s), fill=colour)
        if label == "goat":
            pen.polygon([(x + a * s, y + b * s) for a, b in ((40, -12), (36, -28), (45, -13))], fill=colour)
    return audit.Scene(f"{label}{seed}", label, np.asarray(picture), np.asarray(mask) > 127)


class Looks:
    """A model that knows classes by the colour of the coat, or by the colour of the ground.

    at: "object" or "background". labels: of the three classes. size: of the pictures that it sees.
    """

    def __init__(
        self, at: str, labels: tuple[str, ...] = LABELS, source: audit.Source | None = None, size: int = SIZE
    ) -> None:
        self.labels = labels
        self.source = source or audit.Source("model", f"looks-at-{at}", "3", f"sha256:{'ab' * 32}")
        self.view = audit.View((size, size))
        self._at = at

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        values = pictures.astype(np.float64)
        if self._at == "object":  # the more pixels have a class's very colour, the likelier the class
            near = [np.abs(values - coat).max(-1) < 6 for coat in _COATS.values()]
            scores = np.stack([each.mean((1, 2)) * 60 for each in near], 1)
        else:
            red, green = (values[..., n].mean((1, 2)) for n in range(2))
            scores = np.stack([green - red, np.full_like(red, 12.0), red - green - 4], 1) / 5
        odds = np.exp(np.clip(scores, -30, 30))
        return odds / odds.sum(1, keepdims=True)


def audited(
    at: str, label: str = "goat", *, claimed: str = "", seed: int = 1, mask: bool = True, size: int = SIZE, **changes
) -> audit.PredictionEvidence:
    """What an audit of an animal on its own ground shows. changes: predictor, pool, options, and those of the claim."""
    predictor = changes.pop("predictor", None) or Looks(at, size=size)
    herd = [scene(each, 10 + number, size=size) for number, each in enumerate(LABELS * 2)]
    pool = changes.pop("pool", None) or audit.Pool(herd)
    options = changes.pop("options", audit.PredictionOptions(scenes=2, steps=2, random_orders=1))
    shown = scene(label, seed, size=size)
    claim = audit.Claim(claimed or label, mask=shown.mask if mask else None, **changes)
    return audit.audit_prediction(
        predictor, audit.AnswerMaps(predictor), Image.fromarray(shown.picture), claim, options, pool=pool
    )
