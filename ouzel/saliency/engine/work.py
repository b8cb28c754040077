"""What a batch asks for, and how it is shared out before anything is computed: maps to groups, gradients to passes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ouzel.saliency.method import GradientSpec, Method, Rule
from ouzel.saliency.targets import Rank, ResolvedTarget


@dataclass(frozen=True)
class MapRequest:
    """One map of one row, checked against the network.

    Attributes:
        method: With all its defaults.
        target: A class, a difference of two classes, or a place of the prediction that is still to come.
        reduction: One of REDUCTIONS.
        request: Place among the row's requests, for errors. Equal maps may differ in it.
    """

    method: Method
    target: Rank | ResolvedTarget
    reduction: str
    request: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SaliencyPlan:
    """What one row asks for, checked, and what it costs. Rows of one input size may share it.

    Attributes:
        maps: In the order of the answer.
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        passes: Forward and backward passes per image, at most.
    """

    maps: tuple[MapRequest, ...]
    height: int
    width: int
    passes: int


@dataclass(frozen=True)
class Pair:
    """A row of the batch and one of its targets."""

    row: int
    target: Rank | ResolvedTarget


@dataclass(frozen=True)
class Group:
    """Maps that one method makes at once.

    Attributes:
        method: That makes them.
        reduction: Of all.
        pairs: What they are of: ascending places in `Work.pairs`.
    """

    method: Method
    reduction: str
    pairs: tuple[int, ...]


@dataclass(frozen=True)
class Pass:
    """One backward pass: rows are independent, so it serves one target of every row, for every tensor looked at.

    Attributes:
        rule: Of the pass.
        pairs: For each row of the batch the pair that is served, a place in `Work.pairs`; None is none.
        layers: Whose gradients are wanted; None is the input.
    """

    rule: Rule
    pairs: tuple[int | None, ...]
    layers: tuple[str | None, ...]


@dataclass(frozen=True)
class Work:
    """What a batch asks for.

    Attributes:
        rows: Of the batch.
        pairs: All that is asked about, first one target of each row, then the second ones, and so on: where all rows
            ask alike, runs of pairs are the batch in order, and nothing needs to be gathered.
        groups: The maps.
        answers: For each row and each of its maps, (group, place in the group).
    """

    rows: int
    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...]
    answers: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[MapRequest]]) -> Work:
        """Share out the maps of each row of a batch. Equal ones are made once."""
        targets = [list(dict.fromkeys(one.target for one in row)) for row in rows]
        depth = max(map(len, targets), default=0)
        pairs = [Pair(row, mine[k]) for k in range(depth) for row, mine in enumerate(targets) if k < len(mine)]
        places = {pair: place for place, pair in enumerate(pairs)}
        asked: dict[tuple[Method, str], set[int]] = {}
        for row, maps in enumerate(rows):
            for one in maps:
                asked.setdefault((one.method, one.reduction), set()).add(places[Pair(row, one.target)])
        groups = [Group(*key, tuple(sorted(members))) for key, members in asked.items()]
        numbers = {key: number for number, key in enumerate(asked)}
        inside = [{place: number for number, place in enumerate(group.pairs)} for group in groups]
        answers = []
        for row, maps in enumerate(rows):
            keys = [(numbers[one.method, one.reduction], places[Pair(row, one.target)]) for one in maps]
            answers.append(tuple((group, inside[group][place]) for group, place in keys))
        return cls(len(rows), tuple(pairs), tuple(groups), tuple(answers))

    @property
    def places(self) -> int:
        """How many places of the prediction the targets name; 0 is none."""
        return max((pair.target.place + 1 for pair in self.pairs if isinstance(pair.target, Rank)), default=0)

    def passes(self, groups: Iterable[Group]) -> list[Pass]:
        """As few backward passes as serve these groups: per rule, the k-th serves the k-th pair of each row."""
        by_rule: dict[Rule, dict[int, list[str | None]]] = {}
        for group in groups:
            for spec in group.method.gradient_specs():
                served = by_rule.setdefault(spec.rule, {})
                for pair in group.pairs:
                    served.setdefault(pair, []).append(spec.layer)
        passes = []
        for rule, served in by_rule.items():
            by_row: dict[int, list[int]] = {}
            for pair in sorted(served):
                by_row.setdefault(self.pairs[pair].row, []).append(pair)
            for k in range(max(map(len, by_row.values()))):
                mine = {row: pairs[k] for row, pairs in by_row.items() if k < len(pairs)}
                layers = {layer for pair in mine.values() for layer in served[pair]}
                ordered = sorted(layers, key=lambda layer: layer or "")  # the input first
                passes.append(Pass(rule, tuple(mine.get(row) for row in range(self.rows)), tuple(ordered)))
        return passes


def specs_of(groups: Iterable[Group]) -> frozenset[GradientSpec]:
    """All gradients that these groups take from the shared pass."""
    return frozenset(spec for group in groups for spec in group.method.gradient_specs())


def mixes(rows: Iterable[Sequence[MapRequest]]) -> bool:
    """Whether a row names classes and places of the prediction, which may turn out to be the same."""
    return any(
        any(isinstance(one.target, Rank) for one in maps)
        and any(isinstance(one.target, ResolvedTarget) and one.target.minus is None for one in maps)
        for maps in rows
    )
