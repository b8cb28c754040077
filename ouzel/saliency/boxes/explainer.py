"""Detects, and explains boxes: one forward pass of the batch, and what its maps need beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.checks import at_least
from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.models import detection
from ouzel.models.detection import Detections
from ouzel.models.networks.detectors import Detector
from ouzel.precision_names import EXACT
from ouzel.saliency.boxes.d_rise import DRise
from ouzel.saliency.boxes.gradients import gradient_maps
from ouzel.saliency.boxes.masking import mask_maps
from ouzel.saliency.boxes.prepared import Network
from ouzel.saliency.boxes.request import BoxMapRequest, BoxPlan, BoxSaliency
from ouzel.saliency.boxes.targets import BoxClasses, BoxTarget, check_target
from ouzel.saliency.engine.answer import located
from ouzel.saliency.engine.asked import check_input
from ouzel.saliency.engine.forward import Over
from ouzel.saliency.results import SaliencyMap
from ouzel.saliency.targets import Rank


@dataclass(frozen=True)
class Answered:
    """What a batch came to, on the host.

    Attributes:
        detections: Of each image.
        maps: Of each row the maps in the order asked for, whose targets are `BoxTarget`, or the error in their way.
    """

    detections: list[Detections]
    maps: list[list[SaliencyMap] | OuzelError]


class DetectionExplainer:
    """Detects and explains with one network, always exactly. Threads may share it.

    Args:
        model: A detector: a Model, or its network, of whose input black is taken to be 0 and white 1.
        memory_bytes: What further passes may take at a time, 1 or more; None is a share of the device's memory.
        known_formats: As of `ouzel.saliency.Explainer`.

    Raises:
        InvalidArgument: `memory_bytes` is less than 1.
        FailedPrecondition: It is no detector.

    Attributes:
        labels: Names of the classes; empty for a plain network.
        device: Where the network is.
        precision: "exact".
        deviation: None.
    """

    precision = EXACT
    deviation = None

    def __init__(
        self,
        model: Detector | models.Model,
        *,
        memory_bytes: int | None = None,
        known_formats: Path | None = None,
    ) -> None:
        if memory_bytes is not None:
            at_least("memory_bytes", memory_bytes, 1)
        network: nn.Module = model if isinstance(model, nn.Module) else model.network
        if not isinstance(network, Detector):
            raise FailedPrecondition(f"model: {type(network).__name__} is no detector", field="model")
        self.labels: tuple[str, ...] = () if isinstance(model, nn.Module) else model.labels
        self.network = Network(
            network,
            preprocessing=None if isinstance(model, nn.Module) else model.preprocessing,
            memory_bytes=memory_bytes,
            known_formats=known_formats,
        )
        self.device = self.network.device
        if not isinstance(model, nn.Module):
            self.network.prepare(torch.rand(model.input_shape, generator=torch.Generator().manual_seed(0)))

    def plan(self, requests: Sequence[BoxSaliency], height: int, width: int) -> BoxPlan:
        """Check one row's requests against the network.

        Args:
            requests: What the row asks for.
            height: Of the input, in pixels.
            width: Of the input, in pixels.

        Raises:
            OuzelError: InvalidArgument, NotFound or FailedPrecondition, whose field names the request.
        """
        spec = self.network.spec
        known = BoxClasses(spec.classes, self.labels, spec.background, spec.rules.most, (height, width))
        maps: list[BoxMapRequest] = []
        for number, request in enumerate(requests):
            try:
                targets, method = check_target(request.target, known), request.method
                if not isinstance(method, DRise):
                    self._check_differentiable(method.name, targets[0])
                    method = self.network.bind(method)
                method = method.sized(height, width)
                maps += [BoxMapRequest(method, target, request.reduction, number) for target in targets]
            except OuzelError as error:
                raise located(error, number) from None
        backward = {(each.rule, one.target) for one in maps for each in one.method.gradient_specs()}
        masks = {one.method for one in maps if isinstance(one.method, DRise)}  # targets share them
        others = [one.method for one in maps if not isinstance(one.method, DRise)]
        further = sum(method.cost(height, width) for method in (*masks, *others))
        return BoxPlan(tuple(maps), height, width, 1 + len(backward) + further)

    def _check_differentiable(self, method: str, target: Rank | BoxTarget) -> None:
        if not self.network.spec.shared:
            raise FailedPrecondition(
                f"method: {method} needs the score of a single place of the network. This detector has two stages: the "
                "region that the second one looks at moves with the image, and no derivative tells how; ask for d_rise",
                field="method",
            )
        if isinstance(target, BoxTarget):
            raise InvalidArgument(
                f"target: {method} explains detections, by rank: no single place of the network stands for a box that "
                "is given; ask for d_rise",
                field="target",
            )

    def __call__(
        self,
        x: Tensor,
        requests: Sequence[BoxSaliency | BoxPlan] | Sequence[Sequence[BoxSaliency]],
        over: Sequence[Over | None] | None = None,
    ) -> Answered:
        """Detect, and explain.

        Args:
            x: (B, C, H, W), finite, as the model takes it: normalised.
            requests: The maps of every row; or of each of the B rows its own, as a sequence or as a plan.
            over: For each row, tells when asked whether its caller has stopped waiting.

        Raises:
            InvalidArgument: The input or a request is wrong; the error's field names which.
            FailedPrecondition: A method does not fit the network.
        """
        check_input(x)
        if not x.isfinite().all():
            raise InvalidArgument("x: has values that are not finite", field="x")
        x = x.to(self.device, self.network.dtype)
        self.network.prepare(x[0])
        plans = self._plans(x, requests)
        over = [None] * len(x) if over is None else over
        with models.computing(EXACT):
            gradients = any(not isinstance(one.method, DRise) for plan in plans for one in plan.maps)
            specs = {spec for plan in plans for one in plan.maps for spec in one.method.gradient_specs()}
            forward = self.network.forward(x, specs) if gradients else None
            answer = self.network.answer(x) if forward is None else forward.logits
            found = self.network.candidates(answer, x)
            detections = detection.select(found, self.network.spec.rules)
            finite = answer.isfinite().flatten(1).all(dim=1).tolist()
            errors, rows = _resolved(plans, detections, finite)
            made: list[dict[int, SaliencyMap]] = [{} for _ in plans]
            parts = [mask_maps(self.network, x, found, rows, over)]
            if forward is not None:
                parts.append(gradient_maps(self.network, forward, rows, over))
            for row, one in ((row, one) for part in parts for row, one in enumerate(part)):
                if isinstance(one, OuzelError):
                    errors[row] = errors[row] or one
                else:
                    made[row] |= one
        maps = [
            error or [made[row][place] for place in range(len(plans[row].maps))] for row, error in enumerate(errors)
        ]
        hosted = [Detections(*(getattr(one, each.name).cpu() for each in fields(one))) for one in detections]
        return Answered(hosted, maps)

    def _plans(
        self, x: Tensor, requests: Sequence[BoxSaliency | BoxPlan] | Sequence[Sequence[BoxSaliency]]
    ) -> list[BoxPlan]:
        height, width = x.shape[-2:]
        if all(isinstance(one, BoxSaliency) for one in requests):
            return [self.plan(requests, height, width)] * len(x)  # type: ignore[arg-type]  # as was just seen
        if len(requests) != len(x):
            raise InvalidArgument(f"requests: for {len(requests)} rows, x has {len(x)}", field="requests")
        return [one if isinstance(one, BoxPlan) else self.plan(one, height, width) for one in requests]  # type: ignore[arg-type]


def _resolved(
    plans: Sequence[BoxPlan], detections: Sequence[Detections], finite: Sequence[bool]
) -> tuple[list[OuzelError | None], list[list[tuple[int, BoxMapRequest]]]]:
    """The error of each row, if there is one, and its maps with boxes as targets, each with its place."""
    errors: list[OuzelError | None] = []
    rows = []
    for plan, mine, sound in zip(plans, detections, finite, strict=True):
        maps, error = [], None
        for place, one in enumerate(plan.maps):
            try:
                maps.append((place, replace(one, target=_of_detection(one.target, mine))))
            except OuzelError as refused:
                error = error or located(refused, one.request)
        if not sound:
            error = FailedPrecondition("model: its answer for this image has values that are not finite", field="model")
        errors.append(error)
        rows.append([] if error else maps)
    return errors, rows


def _of_detection(target: Rank | BoxTarget, mine: Detections) -> BoxTarget:
    if isinstance(target, BoxTarget):
        return target
    place = target.place
    if place >= len(mine):
        found = f"{len(mine)} detections" if len(mine) != 1 else "one detection"
        raise FailedPrecondition(
            f"target: rank {place}: the model has {found if len(mine) else 'no detection'} in this image; give a box "
            "and its class, and ask for d_rise",
            field="target",
        )
    left, top, right, bottom = mine.boxes[place].tolist()
    return BoxTarget(
        int(mine.labels[place]),
        box=(left, top, right, bottom),
        score=float(mine.scores[place]),
        place=place,
        candidate=int(mine.places[place]),
    )
