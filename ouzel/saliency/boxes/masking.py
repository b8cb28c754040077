"""Maps of D-RISE for a batch: rows that ask for the same masks are looked at together, and so are a row's targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ouzel.errors import DeadlineExceeded, OuzelError
from ouzel.models.detection import Candidates
from ouzel.saliency.boxes import d_rise
from ouzel.saliency.boxes.d_rise import DRise
from ouzel.saliency.boxes.prepared import Network
from ouzel.saliency.boxes.request import BoxMapRequest
from ouzel.saliency.boxes.targets import BoxTarget
from ouzel.saliency.engine.answer import located
from ouzel.saliency.engine.forward import Over
from ouzel.saliency.results import SaliencyMap

Asked = Sequence[tuple[int, BoxMapRequest]]  # each with its place among the row's requests


def mask_maps(
    network: Network, x: Tensor, found: Candidates, rows: Sequence[Asked], over: Sequence[Over | None]
) -> list[dict[int, SaliencyMap] | OuzelError]:
    """The maps of each row, by their place among its requests, or the error in their way.

    Args:
        network: That is asked.
        x: (B, C, H, W), the images.
        found: Candidates of the images as they are.
        rows: What each row asks for; methods that differentiate are passed over.
        over: See `DetectionExplainer`.
    """
    asked: dict[DRise, dict[int, list[tuple[int, BoxMapRequest]]]] = {}
    for row, maps in enumerate(rows):
        for place, one in maps:
            if isinstance(one.method, DRise):
                asked.setdefault(one.method, {}).setdefault(row, []).append((place, one))
    made: list[dict[int, SaliencyMap] | OuzelError] = [{} for _ in rows]
    for how, by_row in asked.items():
        numbers = [row for row in by_row if not isinstance(made[row], OuzelError)]
        if not numbers:
            continue
        sought = _sought([[_target(one) for _, one in by_row[row]] for row in numbers], numbers, found)
        watched = _Watched(network, tuple(over[row] for row in numbers))
        blocks = max(1, network.rows_per_pass // len(numbers))
        images, black = x[numbers], network.black(x)
        try:
            with torch.no_grad():
                values = d_rise.maps(how, images, black, sought, detect=watched.candidates, blocks=blocks).cpu()
                now = d_rise.similarity(sought, _rows_of(found, numbers))[0].tolist()
        except DeadlineExceeded as error:
            for row in numbers:
                made[row] = located(error, by_row[row][0][1].request)
            continue
        for number, row in enumerate(numbers):
            mine = made[row]
            assert isinstance(mine, dict)
            for which, (place, one) in enumerate(by_row[row]):
                mine[place] = _map(how, one, values[number, which], now[number][which])
    return made


@dataclass(frozen=True)
class _Watched:
    """A network that is asked as long as somebody waits."""

    network: Network
    over: tuple[Over | None, ...]

    def candidates(self, images: Tensor) -> Candidates:
        if all(each is not None and each() for each in self.over):
            raise DeadlineExceeded("the caller's time is over, or the caller has left; the work was stopped")
        return self.network.candidates(self.network.answer(images), images)


def _target(one: BoxMapRequest) -> BoxTarget:
    assert isinstance(one.target, BoxTarget)
    return one.target


def _map(how: DRise, one: BoxMapRequest, values: Tensor, similarity: float) -> SaliencyMap:
    return SaliencyMap(
        method=how.name,
        target=_target(one),
        values=values,
        reduction=one.reduction,
        rectified=0,
        caveats=how.caveats,
        parameters={each.name: getattr(how, each.name) for each in fields(how)},
        measures={"similarity": similarity},  # in the image as it is
    )


def _sought(targets: Sequence[Sequence[BoxTarget]], numbers: Sequence[int], found: Candidates) -> d_rise.Sought:
    """Targets of some rows as tensors, those of rows with fewer padded with their first one."""
    most = max(map(len, targets))
    like = found.probabilities
    padded = [(row, each) for row, mine in zip(numbers, targets, strict=True) for each in _padded(mine, most)]
    known = [
        _one_hot(each.index, like) if each.candidate is None else like[row, each.candidate] for row, each in padded
    ]
    shape = (len(targets), most)
    return d_rise.Sought(
        like.new_tensor([each.box for _, each in padded]).unflatten(0, shape),
        torch.tensor([each.index for _, each in padded], device=like.device).unflatten(0, shape),
        torch.stack(known).unflatten(0, shape),
    )


def _padded(mine: Sequence[BoxTarget], most: int) -> list[BoxTarget]:
    return [*mine, *[mine[0]] * (most - len(mine))]


def _one_hot(index: int, like: Tensor) -> Tensor:
    return like.new_zeros(like.shape[2]).index_fill(0, torch.tensor([index], device=like.device), 1)


def _rows_of(found: Candidates, numbers: Sequence[int]) -> Candidates:
    return Candidates(*(getattr(found, each.name)[list(numbers)] for each in fields(found)))
