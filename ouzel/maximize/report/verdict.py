"""What to think of the images that were found: does the network see in them what was sought?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ouzel import models
from ouzel.maximize.inputs import Inputs
from ouzel.maximize.nodes import ClassLogit
from ouzel.maximize.results import Visualization
from ouzel.maximize.search import Ranking


@dataclass(frozen=True)
class Verdict:
    """What the network says of an image that was to excite a class.

    Attributes:
        label: Of its first choice.
        probability: Of its first choice, in [0, 1].
        rank: Of the class that was sought; 1 is the first choice.
    """

    label: str
    probability: float
    rank: int


def judge(model: models.Model, visualizations: Sequence[Visualization]) -> tuple[Verdict | None, ...]:
    """A verdict per image; None where no class was sought, or there is no other to take it for."""
    return tuple(_verdict(model, one) for one in visualizations)


def _verdict(model: models.Model, one: Visualization) -> Verdict | None:
    if not isinstance(one.node, ClassLogit) or len(model.labels) < 2:
        return None
    height, width = one.image.shape[1:]
    inputs = Inputs(model, (height, width), one.image.shape[0])
    with models.computing(), torch.no_grad():
        logits = inputs.network(inputs.normalised(one.image[None]))[0].float()
    target = one.node.target
    index = models.label_index(model.labels, target) if isinstance(target, str) else target
    first = int(logits.argmax())
    rank = 1 + int((logits > logits[index]).sum())
    return Verdict(model.labels[first], float(models.probabilities(logits)[first]), rank)


def warnings_of(visualizations: Sequence[Visualization], verdicts: Sequence[Verdict | None]) -> list[str]:
    """What a reader must know of images that look like more than they are, one line each."""
    lines = []
    for number, (one, verdict) in enumerate(zip(visualizations, verdicts, strict=True)):
        name = f"{one.title}, image {number}"
        if one.activation <= 0:
            lines.append(
                f"{name}: an activation of {one.activation:.2f} is not above zero; the image does not excite the node. "
                "More steps or another recipe may help."
            )
        if verdict is not None and verdict.rank > 1:
            lines.append(
                f"{name}: not recognised; the network takes the image for {verdict.label} "
                f"({100 * verdict.probability:.0f} %), what was sought comes {_ordinal(verdict.rank)}."
            )
        if (score := one.independent) is not None and score.rank > 1:
            lines.append(
                f"{name}: {score.model} does not recognise it; it takes the image for {score.first} "
                f"({100 * score.first_probability:.0f} %), what was sought comes {_ordinal(score.rank)}."
            )
        if one.best_of_data is not None and one.best_of_data.activation >= one.activation:
            lines.append(
                f"{name}: the photograph {one.best_of_data.name} excites the node more "
                f"({one.best_of_data.activation:.2f}) than what was found ({one.activation:.2f})."
            )
    return lines


def warnings_of_rankings(rankings: Sequence[Ranking]) -> list[str]:
    """Nodes that some of what was found does not excite at all, one line each."""
    lines = []
    for ranking in rankings:
        cold = [hit for hit in ranking.hits if hit.activation <= 0]
        if cold and len(cold) == len(ranking.hits):
            lines.append(
                f"{ranking.title}: no image excites it; even the first has an activation of {cold[0].activation:.2f}."
            )
        elif cold:
            lines.append(
                f"{ranking.title}: {len(cold)} of {len(ranking.hits)} found, the last, with an activation of zero or "
                "less: it is not excited there."
            )
    return lines


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
