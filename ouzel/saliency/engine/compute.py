"""From a forward pass to the maps of its batch, on the device alone: nothing here waits, nor looks at a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel import models
from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.saliency.engine.chosen import Chosen
from ouzel.saliency.engine.dense import DenseTargets, dense_targets
from ouzel.saliency.engine.forward import Forward, ForwardRows, Over
from ouzel.saliency.engine.functionals import Functionals
from ouzel.saliency.engine.work import Group, Pass, Work
from ouzel.saliency.method import GradientSpec
from ouzel.saliency.reductions import REDUCTIONS
from ouzel.saliency.targets import Rank, best

Gradients = Mapping[GradientSpec, Tensor | None]


@dataclass(frozen=True)
class GroupMaps:
    """What a method made of a group of n pairs.

    Attributes:
        values: (n, H, W), or (n, C, H, W) with reduction "none".
        measures: Names of the method's figures.
        refusals: Why pairs may have no map after all.
        rectified: See `SaliencyMap`.
        caveats: The method's and those of this model.
    """

    values: Tensor
    measures: tuple[str, ...]
    refusals: tuple[OuzelError, ...]
    rectified: int
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Computed:
    """What a batch came to.

    Attributes:
        logits: (B, K), or (B, K, H, W).
        groups: The maps of each group, or the error that stands for them all.
        figures: All that the host needs to know, as float64, which holds every class and every float32: of each row the
            largest absolute logit; of each row the `Work.places` best classes, or, with logits of pixels, of each pair
            its class and then of each the share of its region; then of each group the largest absolute value of each
            map, each measure, and whether each refusal holds. What is largest is NaN if any value is.
    """

    logits: Tensor
    groups: tuple[GroupMaps | OuzelError, ...]
    figures: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Computed:
        """The same with each tensor changed."""
        groups = [
            one if isinstance(one, OuzelError) else replace(one, values=change(one.values)) for one in self.groups
        ]
        return Computed(change(self.logits), tuple(groups), change(self.figures))

    @property
    def dense(self) -> bool:
        """Whether there are logits for each pixel."""
        return self.logits.ndim == 4


def classes_of(work: Work) -> Tensor:
    """(pairs, 2) the class that is explained and the one that is subtracted; 0 where there is none, or not yet."""
    known = [None if isinstance(pair.target, Rank) else pair.target for pair in work.pairs]
    classes = [(0, 0) if one is None else (one.index, one.minus or 0) for one in known]
    return torch.tensor(classes, dtype=torch.int64).reshape(-1, 2)


@torch.inference_mode(False)
@torch.no_grad()
def compute(
    forward: Forward,
    work: Work,
    classes: Tensor,
    chosen: Chosen,
    over: Sequence[Over | None] | None = None,
    *,
    found: DenseTargets | None = None,
) -> Computed:
    """All maps of a batch.

    Args:
        forward: Its forward pass; the graph is let go at the end.
        work: What is asked for.
        classes: (pairs, 2), `classes_of` the work on the device.
        chosen: To pick rows with.
        over: For each row, whether nobody waits for it any more; a group goes on as long as somebody waits for a row.
        found: What the pairs are about, of a detector's candidates; else it is found here.
    """
    logits = forward.logits
    functionals, targets = _targets(forward, work, classes, chosen, found)
    errors = {number: error for number, group in enumerate(work.groups) if (error := _error(forward, group))}
    ready = [group for number, group in enumerate(work.groups) if number not in errors]
    with models.computing(forward.prepared.precision):
        passes = work.passes(ready)
        gradients = [
            forward.backward(
                one.rule,
                one.layers,
                functionals.served(one.pairs, chosen).gradient,
                retain_graph=number < len(passes),
            )
            for number, one in enumerate(passes, 1)
        ]
        groups: list[GroupMaps | OuzelError] = []
        figures = [_largest(logits), *targets]
        for number, group in enumerate(work.groups):
            if number in errors:
                groups.append(errors[number])
                continue
            rows = [work.pairs[pair].row for pair in group.pairs]
            specs = group.method.gradient_specs()
            mine = {spec: _of_group(spec, group, passes, gradients, chosen) for spec in specs}
            ended = None if over is None else _all([over[row] for row in rows])
            of_group = ForwardRows(forward, rows, functionals.rows(group.pairs, chosen), mine, chosen, specs, ended)
            try:
                maps, more = _maps(of_group, group)
            except OuzelError as error:
                groups.append(error)
                continue
            groups.append(maps)
            figures += more
    forward.release()
    return Computed(logits, tuple(groups), torch.cat(figures))


def _largest(values: Tensor) -> Tensor:
    """(n,) largest absolute value of each row of (n, ...), which is NaN where any value is."""
    return values.abs().flatten(1).amax(dim=1)


def _error(forward: Forward, group: Group) -> OuzelError | None:
    try:
        for spec in group.method.gradient_specs():
            forward.check(spec)
    except OuzelError as error:
        return error
    return None


def _targets(
    forward: Forward, work: Work, classes: Tensor, chosen: Chosen, found: DenseTargets | None
) -> tuple[Functionals, list[Tensor]]:
    """What the pairs are about, and the figures that say so."""
    logits, prepared = forward.logits, forward.prepared
    if not work.pairs:
        return Functionals(logits[:0]), []
    if prepared.dense:
        found = found or dense_targets(work, logits, classes, chosen, prepared.background)
        return found.functionals, [found.classes.double(), found.areas]
    ranking = best(logits, work.places) if work.places else logits.new_empty(len(logits), 0, dtype=torch.int64)
    return Functionals(_weights(work, logits, ranking, classes, chosen)), [ranking.flatten().double()]


def _weights(work: Work, logits: Tensor, ranking: Tensor, classes: Tensor, chosen: Chosen) -> Tensor:
    """(pairs, K): 1 at the class that is explained, -1 at the one that is subtracted."""
    targets = [pair.target for pair in work.pairs]
    first = classes[:, :1]
    if work.places:
        ranked = chosen.rows(ranking, [pair.row for pair in work.pairs])
        places = [target.place if isinstance(target, Rank) else 0 for target in targets]
        if work.places > 1:
            ranked = ranked.gather(1, chosen.numbers(places)[:, None])
        known = [not isinstance(target, Rank) for target in targets]
        first = torch.where(chosen.numbers(known)[:, None] == 1, first, ranked) if any(known) else ranked
    weights = logits.new_zeros(len(targets), logits.shape[1]).scatter_(1, first, 1)
    signs = [0 if isinstance(target, Rank) or target.minus is None else -1 for target in targets]
    if any(signs):
        weights.scatter_add_(1, classes[:, 1:], chosen.numbers(signs)[:, None].to(weights.dtype))
    return weights


def _of_group(
    spec: GradientSpec, group: Group, passes: Sequence[Pass], gradients: Sequence[Gradients], chosen: Chosen
) -> Tensor | None:
    """(n, ...) the gradient of each pair of a group, from the passes that served them; None if there is none."""
    members = frozenset(group.pairs)
    where: dict[int, tuple[int, int]] = {}
    used: list[Tensor] = []
    for one, given in zip(passes, gradients, strict=True):
        served = [(row, pair) for row, pair in enumerate(one.pairs) if pair in members]
        if one.rule != spec.rule or not served:
            continue
        gradient = given[spec]
        if gradient is None:
            return None
        where |= {pair: (len(used), row) for row, pair in served}
        used.append(gradient)
    together = used[0] if len(used) == 1 else torch.cat(used)
    rows = len(used[0])
    return chosen.rows(together, [number * rows + row for number, row in map(where.__getitem__, group.pairs)])


def _maps(rows: ForwardRows, group: Group) -> tuple[GroupMaps, list[Tensor]]:
    """What the method says of its rows, at the size of the input, and the figures that go with it."""
    attribution = group.method.attribute(rows)
    values = attribution.values.detach()
    if values.ndim == 4:
        values = REDUCTIONS[group.reduction](values)
    else:  # a layer's map, at the layer's resolution
        size = rows.forward.x.shape[-2:]
        values = F.interpolate(values[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    blind = [found for spec in rows.specs if (found := _blind(rows, spec)) is not None]
    maps = GroupMaps(
        values=values.contiguous(),
        measures=tuple(attribution.measures),
        refusals=tuple(why for _, why in blind),
        rectified=attribution.rectified,
        caveats=group.method.caveats + attribution.caveats,
    )
    return maps, [_largest(values), *attribution.measures.values(), *(which for which, _ in blind)]


def _blind(rows: ForwardRows, spec: GradientSpec) -> tuple[Tensor, OuzelError] | None:
    """Which rows depend on a layer through what has no place in its maps; None of a layer without such parts."""
    gradient = rows.gradients[spec]
    if gradient is not None and spec.layer is not None and rows.forward.prepared.shared:
        apart = FailedPrecondition(
            f"layer: the score of this detection does not depend on {spec.layer!r}, which its level of the pyramid "
            "does not come from; name an earlier layer",
            field="layer",
        )
        return ~gradient.flatten(1).any(dim=1), apart
    if gradient is None or spec.layer is None or rows.forward.layout(spec.layer).cut is None:
        return None
    seen = rows.gradient(spec).flatten(1).any(dim=1)
    error = FailedPrecondition(
        f"layer: the model's answer depends on {spec.layer!r} through its class token alone, which has "
        "no place in the image; name an earlier layer",
        field="layer",
    )
    return gradient.flatten(1).any(dim=1) & ~seen, error


def _all(over: Sequence[Over | None]) -> Over | None:
    given = [each for each in over if each is not None]
    return (lambda: all(each() for each in given)) if len(given) == len(over) else None
