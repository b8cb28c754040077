"""Maps of the class scores of detections: of the logit at the anchor that gave the box, before any suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ouzel.errors import OuzelError
from ouzel.saliency.boxes.d_rise import DRise
from ouzel.saliency.boxes.prepared import Network
from ouzel.saliency.boxes.request import BoxMapRequest
from ouzel.saliency.boxes.targets import BoxTarget
from ouzel.saliency.engine.answer import Answer
from ouzel.saliency.engine.chosen import Chosen
from ouzel.saliency.engine.compute import classes_of, compute
from ouzel.saliency.engine.dense import DenseTargets
from ouzel.saliency.engine.forward import Forward, Over
from ouzel.saliency.engine.functionals import Functionals
from ouzel.saliency.engine.work import MapRequest, Work
from ouzel.saliency.results import SaliencyMap
from ouzel.saliency.transfer import Transfer, sent

_POOLED = (
    "its channels are weighted by means over the whole image: it shows where such channels respond anywhere, also "
    "where the detection does not depend on the image; layer_cam weights each place",
)
_CAVEATS = dict.fromkeys(("grad_cam", "grad_cam_plus_plus"), _POOLED)


def gradient_maps(
    network: Network,
    forward: Forward,
    rows: Sequence[Sequence[tuple[int, BoxMapRequest]]],
    over: Sequence[Over | None],
) -> list[dict[int, SaliencyMap] | OuzelError]:
    """The maps of each row, by their place among its requests, or the error in their way.

    The anchor is the one that gave the box in the image as it is, also for methods that look at other images.

    Args:
        network: That was asked.
        forward: Its pass over the batch; the graph is let go.
        rows: What each row asks for, each with its place; what D-RISE answers is passed over.
        over: See `DetectionExplainer`.
    """
    mine = [[(place, one) for place, one in maps if not isinstance(one.method, DRise)] for maps in rows]
    requests = [[MapRequest(one.method, _target(one), one.reduction, one.request) for _, one in maps] for maps in mine]
    work = Work.of(requests)
    if not work.pairs:
        forward.release()
        return [{} for _ in rows]
    device = forward.logits.device
    classes, found = sent(classes_of(work), device), _targets(work, forward)
    computed = compute(forward, work, classes, Chosen(device), over, found=found)
    transfer = Transfer()
    answer = Answer(requests, work, computed, transfer, maps_too=True)
    made: list[dict[int, SaliencyMap] | OuzelError] = []
    for row, maps in enumerate(mine):
        result = answer.of_row(row)
        if isinstance(result, OuzelError):
            made.append(result)
            continue
        pairs = zip(maps, result, strict=True)
        made.append(
            {
                place: replace(one, target=_target(asked), caveats=one.caveats + _CAVEATS.get(one.method, ()))
                for (place, asked), one in pairs
            }
        )
    return made


def _target(one: BoxMapRequest) -> BoxTarget:
    assert isinstance(one.target, BoxTarget)
    return one.target


def _targets(work: Work, forward: Forward) -> DenseTargets:
    """One logit of one anchor for each pair."""
    logits = forward.logits
    targets = [pair.target for pair in work.pairs]
    classes, anchors = [], []
    for target in targets:
        assert isinstance(target, BoxTarget)
        assert target.candidate is not None
        classes.append(target.index)
        anchors.append(target.candidate)
    index, place = (sent(numbers, logits.device, torch.int64) for numbers in (classes, anchors))
    weights = _at(index, logits.shape[1], logits)
    regions = _at(place, logits.shape[2], logits)[..., None]
    return DenseTargets(Functionals(weights, regions), index, torch.ones_like(index, dtype=torch.float64))


def _at(index: Tensor, count: int, like: Tensor) -> Tensor:
    """(n, count): 1 at each index."""
    return like.new_zeros(len(index), count).scatter_(1, index[:, None], 1)
