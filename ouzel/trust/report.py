"""The trust report: every metric for every method, beside two baselines that know nothing of the model.

No metric tells the whole: on digits, guided backpropagation wins at deletion and fails when the network is randomised.
So all are shown, and what a method fails is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.checks import within
from ouzel.errors import InvalidArgument, OuzelError
from ouzel.metrics import deletion, randomization, regions, robustness
from ouzel.models.photographs import Photograph
from ouzel.precision_names import EXACT, Precision
from ouzel.saliency import METHODS, Explainer, make_method
from ouzel.task_names import CLASSIFICATION
from ouzel.trust import explainers
from ouzel.trust.explainers import EDGES, RANDOM, Maps

# Above this mean rank correlation with the maps of a network that forgets its layers from the output down, a method is
# said to fail: most of what it draws does not come from what the network has learnt.
MPRT_LIMIT = 0.5
# What the methods of many passes are asked for; fewer passes than their defaults, for each runs a hundred times.
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "integrated_gradients": {"steps": 16},
    "smoothgrad": {"samples": 8},
    "rise": {"masks": 128},
}
# Figures in the order of the table, with the better direction: 1 more is better, -1 less.
FIGURES: Mapping[str, int] = {
    "deletion": -1,
    "insertion": 1,
    "pointing": 1,
    "energy": 1,
    "mprt": -1,
    "infidelity": -1,
    "sensitivity": -1,
}
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrustOptions:
    """How a model's methods are measured.

    Attributes:
        methods: Names of saliency methods.
        steps: Of deletion and insertion, 2 to 1024.
        stages: Of randomisation, 1 to 64.
        samples: Perturbed maps for max-sensitivity, 2 to 256.
        perturbations: Forward passes for infidelity, 8 to 1024.
        seed: Of all that is drawn.

    Raises:
        InvalidArgument: A value is out of range, or there is no such method.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    steps: int = 32
    stages: int = 5
    samples: int = 10
    perturbations: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.methods:
            raise InvalidArgument("methods: name at least one", field="methods")
        for name in self.methods:
            make_method(name, {})
        limits = {"steps": (2, 1024), "stages": (1, 64), "samples": (2, 256), "perturbations": (8, 1024)}
        for name, (least, most) in limits.items():
            within(name, getattr(self, name), least, most)


QUICK = TrustOptions(("gradient", "guided", "grad_cam"), steps=16, stages=2, samples=3, perturbations=24)


@dataclass(frozen=True)
class Score:
    """What was measured of one method.

    Attributes:
        method: Its name.
        figures: Means over the photographs, by name, those of FIGURES that could be measured.
        mprt_stages: Rank correlation after each stage of randomisation; their mean is the figure.
        fails: What the map is known to fail.
        problem: Why a method could not be measured at all; then everything else is empty.
        maps: (H, W) per photograph, for pictures.
    """

    method: str
    figures: Mapping[str, float] = field(default_factory=dict)
    mprt_stages: tuple[float, ...] = ()
    fails: tuple[str, ...] = ()
    problem: str = ""
    maps: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class TrustReport:
    """What was measured of a model.

    Attributes:
        model: Its name.
        digest: Of its weights.
        options: How it was measured.
        photographs: Name and predicted label of each.
        scores: One per method, then the two baselines.
        precision: What all figures were computed in, whatever the model is served in.
    """

    model: str
    digest: str
    options: TrustOptions
    photographs: tuple[tuple[str, str], ...]
    scores: tuple[Score, ...]
    precision: Precision = EXACT


def trust(
    model: models.Model,
    photographs: Sequence[Photograph],
    options: TrustOptions = TrustOptions(),
    *,
    on_progress: Progress = lambda stage, done, total: None,
) -> TrustReport:
    """Measure each method's maps of the predicted class on every photograph, and both baselines.

    It takes minutes on a processor; see TrustOptions.

    Args:
        model: To be measured.
        photographs: One or more.
        options: How.
        on_progress: Told the method, and how many of how many are done.

    Raises:
        InvalidArgument: There are no photographs, or captum or scipy is missing.
        FailedPrecondition: The model is no classifier.
    """
    model.need(CLASSIFICATION, "trust reports")
    robustness.need_packages()
    if not photographs:
        raise InvalidArgument("images: give at least one photograph", field="images")
    bench = _Bench(model, photographs, options)
    contenders: dict[str, Maps | None] = dict.fromkeys(options.methods)
    contenders |= {EDGES: explainers.edge_filter, RANDOM: explainers.random_map(options.seed)}
    scores = []
    for number, (name, baseline) in enumerate(contenders.items()):
        on_progress(name, number, len(contenders))
        scores.append(bench.score(name, baseline))
    on_progress("", len(contenders), len(contenders))
    names = tuple((one.name, label) for one, label in zip(photographs, bench.labels, strict=True))
    return TrustReport(model.name, model.digest, options, names, _compared(scores))


class _Bench:
    """One model, its randomised copies, and the photographs."""

    def __init__(self, model: models.Model, photographs: Sequence[Photograph], options: TrustOptions) -> None:
        self.explainer = Explainer(model)
        x = torch.stack([one.x for one in photographs])
        prepared = self.explainer.prepare(x[0])
        self.network: nn.Module = prepared.network
        self.x = x.to(self.explainer.device, self.explainer.dtype)
        self.photographs, self.options = photographs, options
        with models.computing(), torch.no_grad():
            self.targets: list[int] = self.network(self.x).argmax(dim=1).tolist()
        self.labels = [model.labels[target] for target in self.targets]
        self.forgetful = [
            Explainer(replace(model, network=each))  # with the model's own black and white
            for each in randomization.cascade(model.network, options.stages, options.seed)
        ]

    @models.computing()
    def score(self, name: str, baseline: Maps | None) -> Score:
        """All figures of one contender; `problem` if the method refuses this model."""
        parameters = PARAMETERS.get(name, {})
        if name == "occlusion":
            edge = max(1, min(self.x.shape[2:]) // 7)
            parameters = {"window": edge, "stride": edge}
        shown = baseline or explainers.method(name, **parameters)
        per_channel = baseline or explainers.method(name, "none", **parameters)
        try:
            maps = shown(self.explainer, self.x, self.targets).cpu()
            signed = per_channel(self.explainer, self.x, self.targets).cpu()
            stages = self._randomised(shown, maps)
            figures = {
                "deletion": self._areas(maps, "deletion"),
                "insertion": self._areas(maps, "insertion"),
                **self._regions(maps),
                "mprt": fmean(stages),
                "infidelity": self._infidelity(signed),
                "sensitivity": self._sensitivity(shown),
            }
        except OuzelError as error:
            return Score(name, problem=str(error))
        return Score(name, figures, stages, maps=tuple(one.float().numpy() for one in maps))

    def _areas(self, maps: Tensor, mode: deletion.Mode) -> float:
        steps, seed = self.options.steps, self.options.seed
        rows = zip(self.x, maps, self.targets, strict=True)
        return fmean(
            deletion.area(self.network, x, one, target, mode, steps=steps, seed=seed) for x, one, target in rows
        )

    def _regions(self, maps: Tensor) -> dict[str, float]:
        rows = zip(maps, self.photographs, self.labels, strict=True)
        known = [(one, mask) for one, photo, label in rows if (mask := photo.mask_for(label)) is not None]
        if not known:
            return {}
        return {
            "pointing": fmean(regions.pointing_game(one, mask) for one, mask in known),
            "energy": fmean(regions.energy_inside(one, mask) for one, mask in known),
        }

    def _randomised(self, shown: Maps, maps: Tensor) -> tuple[float, ...]:
        stages = []
        for explainer in self.forgetful:
            others = shown(explainer, self.x, self.targets).cpu()
            stages.append(fmean(randomization.rank_correlation(a, b) for a, b in zip(maps, others, strict=True)))
        return tuple(stages)

    def _infidelity(self, signed: Tensor) -> float:
        rows = zip(self.x, signed.to(self.x), self.targets, strict=True)
        count, seed = self.options.perturbations, self.options.seed
        return fmean(
            robustness.infidelity(self.network, x, one, target, samples=count, seed=seed) for x, one, target in rows
        )

    def _sensitivity(self, shown: Maps) -> float:
        def one(x: Tensor, target: int) -> float:
            def explain(inputs: Tensor) -> Tensor:
                return shown(self.explainer, inputs, [target] * len(inputs))

            return robustness.max_sensitivity(explain, x, samples=self.options.samples, seed=self.options.seed)

        return fmean(one(x, target) for x, target in zip(self.x, self.targets, strict=True))


def _compared(scores: Sequence[Score]) -> tuple[Score, ...]:
    """The scores with what each fails, seen beside the baselines."""
    random = next(score for score in scores if score.method == RANDOM).figures
    edges = next(score for score in scores if score.method == EDGES).figures
    judged = []
    for score in scores:
        fails = []
        if score.figures and score.method not in (EDGES, RANDOM):
            if score.figures["mprt"] > MPRT_LIMIT:
                fails.append(f"mprt: {score.figures['mprt']:.2f} > {MPRT_LIMIT}")
            for name in ("deletion", "insertion", "energy"):
                for title, other in ((EDGES, edges), (RANDOM, random)):
                    if name in score.figures and (score.figures[name] - other[name]) * FIGURES[name] <= 0:
                        fails.append(f"{name}: no better than {title}")
        judged.append(replace(score, fails=tuple(fails)))
    return tuple(judged)
