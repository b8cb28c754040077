"""Confirms or clears clusters of like maps: what happens if the region that a cluster marks is moved?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from statistics import fmean

import numpy as np

from ouzel.audit.dataset import clusters as spray
from ouzel.audit.dataset.design import DatasetDesign
from ouzel.audit.dataset.evidence import Cluster, ClusterVerdict
from ouzel.audit.dataset.examples import UNREADABLE, Example
from ouzel.audit.dataset.figures import Comparison
from ouzel.audit.dataset.image import Kept
from ouzel.audit.dataset.moves import Shown, move
from ouzel.audit.dataset.statistics import compare, corrected, decide
from ouzel.audit.predictor import Predictor

_TESTED = 64  # clusters: each costs up to four answers a pair
_FEWEST = 3  # images of a cluster that is worth a test
_OUTSIDE = 0.5  # share of a region: with less outside of the objects it is taken for theirs

# Told how many clusters are done, of how many, after each pair; it may raise.
OnPair = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Material:
    """What clusters are made of and tested with.

    Attributes:
        examples: Of the data set.
        kept: Of each of them.
        predictor: Whose predictions are audited.
    """

    examples: Sequence[Example]
    kept: Sequence[Kept]
    predictor: Predictor

    def shown(self, number: int) -> Shown | None:
        """An image as the model sees it; None if it cannot be read."""
        try:
            return Shown.of(*self.examples[number].seen(self.predictor.view))
        except UNREADABLE:
            return None


@dataclass
class _Draft:
    """A cluster before its verdict; numbers are those of images."""

    label: str
    number: int
    members: Sequence[int]
    others: Sequence[int]  # of the class, outside of the cluster
    mean: np.ndarray
    region: np.ndarray
    outside: list[float] = field(default_factory=list)  # of each swap: the share of the region that is not an object
    known: bool = True  # whether the objects of all moved pictures are known
    pasted: Comparison | None = None
    removed: Comparison | None = None


def examined_clusters(material: Material, design: DatasetDesign, on_pair: OnPair) -> tuple[tuple[Cluster, ...], str]:
    """Finds clusters in each class, and tests them.

    Two swaps are made. The region of members is put on images of other classes: do these become the class? And the
    region of images outside of the cluster is put on members: do these leave the class? Each has a control, a region
    of the same shape elsewhere. Objects are never touched.

    Args:
        material: Images and their small maps. Only those count of which the model says what was claimed.
        design: Its margins and alpha hold for clusters, too.
        on_pair: Told how far the tests are.

    Returns:
        The clusters, by class and size; and why there are none, or what was left out.
    """
    if not design.clusters:
        return (), "No clusters were wanted."
    classes: dict[str, list[int]] = {}
    for number, kept in enumerate(material.kept):
        if kept.map is not None and kept.row.agrees:
            classes.setdefault(kept.row.claimed, []).append(number)
    drafts, notes = _drafts(material, classes, design)
    # Those come first whose maps lie least on the object.
    order = sorted(
        (each for each in drafts if len(each.members) >= _FEWEST), key=lambda each: _on_object(material, each)
    )
    tested = order[:_TESTED]
    for done, draft in enumerate(tested):
        tell = partial(on_pair, done, len(tested))
        targets = [number for label, numbers in sorted(classes.items()) if label != draft.label for number in numbers]
        _test(material, draft, targets, design, tell)
    family = corrected([test for each in tested for test in (each.pasted, each.removed)])
    for draft, pasted, removed in zip(tested, family[::2], family[1::2], strict=True):
        draft.pasted, draft.removed = pasted, removed
    if len(order) > len(tested):
        notes.append(f"{len(order) - len(tested)} clusters were not tested: the maps of {_TESTED} lie less on objects.")
    return tuple(_judged(material, each, design) for each in drafts), " ".join(notes)


def _drafts(material: Material, classes: dict[str, list[int]], design: DatasetDesign) -> tuple[list[_Draft], list[str]]:
    drafts, few, many = [], 0, 0
    for number, label in enumerate(sorted(classes)):
        images = classes[label]
        if len(images) < spray.FEWEST:
            few += 1
            continue
        if len(images) > spray.LARGEST:
            many += 1
            images = sorted(_drawn(images, (design.seed, number))[: spray.LARGEST])
        found = spray.alike(_maps(material, images), design.seed)
        outside = [each for other, some in classes.items() if other != label for each in some]
        for count, cluster in enumerate(found):
            members = [images[each] for each in cluster.members]
            others = sorted(set(images) - set(members))
            compared = others or outside
            rest = _maps(material, compared).mean(0) if compared else np.zeros_like(cluster.mean)
            drafts.append(_Draft(label, count, members, others, cluster.mean, spray.marked(cluster.mean, rest)))
    notes = []
    if few:
        notes.append(f"{few} classes have fewer than {spray.FEWEST} images with a map that the model takes for them.")
    if many:
        notes.append(f"Of {many} classes {spray.LARGEST} images, drawn by lot, were clustered.")
    if not classes:
        notes.append("No image has a map, or the model says of none what was claimed.")
    return drafts, notes


def _maps(material: Material, numbers: Sequence[int]) -> np.ndarray:
    return np.stack([each for n in numbers if (each := material.kept[n].map) is not None]).astype(np.float64)


def _on_object(material: Material, draft: _Draft) -> float:
    shares = [each for n in draft.members if (each := material.kept[n].row.share_on_object) is not None]
    return fmean(shares) if shares else 0.0


def _drawn(numbers: Sequence[int], seed: Sequence[int]) -> list[int]:
    return [numbers[n] for n in np.random.default_rng(list(seed)).permutation(len(numbers))]


def _test(
    material: Material, draft: _Draft, targets: Sequence[int], design: DatasetDesign, on_pair: Callable[[], None]
) -> None:
    most, members = design.cluster_pairs, list(draft.members)
    targets = _drawn(targets, (design.seed, 1))[:most]
    results: list[tuple[bool, bool]] = []
    for donor, onto in zip(cycle(members), targets, strict=False):
        results += _swapped(material, draft, donor, onto, leaves=False)
        on_pair()
    draft.pasted = compare("paste", [each for each, _ in results], [each for _, each in results])
    results = []
    donors = _drawn(draft.others or targets, (design.seed, 2))
    for donor, onto in zip(cycle(donors), islice(members, most), strict=False) if donors else ():
        results += _swapped(material, draft, donor, onto, leaves=True)
        on_pair()
    draft.removed = compare("remove", [each for each, _ in results], [each for _, each in results])


def _swapped(material: Material, draft: _Draft, donor: int, onto: int, *, leaves: bool) -> Iterator[tuple[bool, bool]]:
    """Whether the swap, and its control, make the picture leave the class, or else become it; nothing if unreadable."""
    first, second = material.shown(donor), material.shown(onto)
    if first is None or second is None:
        return
    made = move(draft.region, first, second)
    draft.outside.append(made.outside)
    draft.known &= first.known and second.known
    labels = material.predictor.labels
    answers = material.predictor(np.stack([made.changed, made.control]))
    changed, control = (labels[int(each.argmax())] == draft.label for each in answers)
    yield (not changed, not control) if leaves else (changed, control)


def _judged(material: Material, draft: _Draft, design: DatasetDesign) -> Cluster:
    verdict, reason = _verdict(draft, design)
    names = tuple(material.examples[each].name for each in draft.members)
    return Cluster(
        draft.label,
        draft.number,
        names,
        draft.mean,
        draft.region,
        verdict,
        reason,
        draft.pasted,
        draft.removed,
    )


def _verdict(draft: _Draft, design: DatasetDesign) -> tuple[ClusterVerdict, str]:
    pasted, removed = draft.pasted, draft.removed
    tests = [each for each in (pasted, removed) if each is not None]
    if not tests:
        return "inconclusive", "The region was not moved: there are too few images, or too many other clusters."
    outside = fmean(draft.outside)
    told = f"{_told(draft, pasted, removed)} {outside:.0%} of the region is outside of the objects."
    decided = [decide(each, design.margins.flip, design.alpha) for each in tests]
    enough = [each.test.pairs >= design.margins.fewest for each in tests]
    if any(each == "beyond" and many for each, many in zip(decided, enough, strict=True)):
        if not draft.known:
            return "inconclusive", f"The region carries the prediction, but may be the object: some are unknown. {told}"
        return "confirmed", f"The region carries the prediction, and is not the object. {told}"
    if draft.known and outside < _OUTSIDE and "beyond" not in decided:
        return "cleared", f"The maps mark the objects themselves, and what is around them carries nothing. {told}"
    if all(each == "within" for each in decided) and len(tests) == 2:
        return "cleared", f"The region does not carry the prediction. {told}"
    return "inconclusive", f"Too few images to tell. {told}"


def _told(draft: _Draft, pasted: Comparison | None, removed: Comparison | None) -> str:
    parts = []
    if pasted is not None:
        parts.append(
            f"With it, {pasted.flips.count} of {pasted.flips.of} images of other classes become {draft.label!r}, with "
            f"a region elsewhere {pasted.control_flips.count} (p {pasted.test.adjusted_p:.2g})."
        )
    if removed is not None:
        parts.append(
            f"Without it, {removed.flips.count} of {removed.flips.of} images of the cluster are no longer "
            f"{draft.label!r}, without a region elsewhere {removed.control_flips.count} (p "
            f"{removed.test.adjusted_p:.2g})."
        )
    return " ".join(parts)
