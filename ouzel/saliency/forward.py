"""One forward pass and the few backward passes over its graph that several methods and targets share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition
from ouzel.saliency.method import Rule, Want
from ouzel.saliency.rectifiers import Rectifiers
from ouzel.saliency.taps import Taps
from ouzel.saliency.targets import ResolvedTarget, cotangent


@dataclass(frozen=True)
class Prepared:
    """A network ready to be explained: frozen, folded, tapped."""

    network: nn.Module
    taps: Taps
    memory_format: torch.memory_format


@dataclass(frozen=True)
class Demand:
    """One row's wish for one gradient."""

    row: int
    target: ResolvedTarget
    want: Want


@dataclass
class Forward:
    """A forward pass whose graph is kept as long as this object lives, or no graph if nothing is `wanted`.

    x: (B, C, H, W). After construction `logits` is (B, K), detached.
    """

    prepared: Prepared
    x: Tensor
    wanted: Iterable[Want]
    logits: Tensor = field(init=False)
    rectifiers: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        wanted = frozenset(self.wanted)
        self._rule = Rectifiers()
        self._gradients: dict[Demand, Tensor | None] = {}
        x = self.x.detach().contiguous(memory_format=self.prepared.memory_format)
        with torch.set_grad_enabled(bool(wanted)):
            self._input = x.requires_grad_() if wanted and not x.requires_grad else x
            guided = any(want.rule == "guided" for want in wanted)
            layers = sorted({want.layer for want in wanted if want.layer is not None})
            # An in-place first layer may not write into the caller's tensor, nor into a leaf of the graph.
            entry = self._input.clone(memory_format=torch.preserve_format)
            with self.prepared.taps.recording(layers) as record, self._rule if guided else nullcontext():
                self._output = self.prepared.network(entry)
        self._record = record
        self.logits = self._output.detach()
        self.rectifiers = self._rule.count

    def check(self, want: Want) -> None:
        """Raises FailedPrecondition if the pass did not reach what is wanted."""
        if want.layer is not None:
            self._layer(want.layer)

    def activation(self, layer: str) -> Tensor:
        """(B, ...) output of a layer, detached."""
        return self._layer(layer).detach()

    def _layer(self, layer: str) -> Tensor:
        output = self._record.get(layer)
        if output is None:
            raise FailedPrecondition(f"layer: {layer!r} gives no tensor in the model's forward pass", field="layer")
        if not output.requires_grad:
            raise FailedPrecondition(f"layer: the input does not reach {layer!r}", field="layer")
        return output

    def differentiate(self, demands: Iterable[Demand]) -> None:
        """Run as few backward passes as serve all demands; `gradient` then answers from memory.

        Rows are independent, so one pass serves one target of every row, for every tensor that is differentiated.
        """
        passes = _pack(demands)
        for number, (rule, rows) in enumerate(passes):
            last = number == len(passes) - 1
            self._backward(rule, rows, retain_graph=not last)

    def _backward(self, rule: Rule, rows: dict[int, list[Demand]], *, retain_graph: bool) -> None:
        layers = sorted({d.want.layer for demands in rows.values() for d in demands if d.want.layer is not None})
        of_input = any(d.want.layer is None for demands in rows.values() for d in demands)
        names: list[str | None] = [*([None] if of_input else []), *layers]
        inputs = [self._input if name is None else self._layer(name) for name in names]
        targets = [rows[row][0].target if row in rows else None for row in range(len(self.x))]
        self._rule.guided = rule == "guided"
        gradients = torch.autograd.grad(
            self._output, inputs, cotangent(targets, self.logits), retain_graph=retain_graph, allow_unused=True
        )
        named = dict(zip(names, gradients, strict=True))
        for demands in rows.values():
            for demand in demands:
                gradient = named[demand.want.layer]
                self._gradients[demand] = None if gradient is None else gradient[demand.row]

    def gradient(self, demand: Demand) -> Tensor:
        """Gradient of one row that `differentiate` was asked for. Raises FailedPrecondition where there is none."""
        gradient = self._gradients[demand]
        if gradient is None:
            where = f"layer {demand.want.layer!r}" if demand.want.layer else "input"
            raise FailedPrecondition(f"the model's answer does not depend on the {where}", field="layer")
        return gradient

    def release(self) -> None:
        """Let the graph go."""
        self._record = {}
        self._output = self.logits


def _pack(demands: Iterable[Demand]) -> list[tuple[Rule, dict[int, list[Demand]]]]:
    """Group demands into passes: per rule, the k-th pass serves the k-th distinct target of each row."""
    by_rule: dict[Rule, dict[int, dict[ResolvedTarget, list[Demand]]]] = {}
    for demand in dict.fromkeys(demands):
        rows = by_rule.setdefault(demand.want.rule, {})
        rows.setdefault(demand.row, {}).setdefault(demand.target, []).append(demand)
    passes: list[tuple[Rule, dict[int, list[Demand]]]] = []
    for rule, rows in by_rule.items():
        depth = max(len(targets) for targets in rows.values())
        passes += [
            (rule, {row: list(targets.values())[k] for row, targets in rows.items() if k < len(targets)})
            for k in range(depth)
        ]
    return passes


@dataclass(frozen=True)
class ForwardRows:
    """`method.Rows` over one forward pass: row numbers of the batch, with one target each."""

    forward: Forward
    numbers: Sequence[int]
    targets: tuple[ResolvedTarget, ...]
    wants: tuple[Want, ...]

    @property
    def x(self) -> Tensor:
        return self.forward.x[list(self.numbers)]

    @property
    def logits(self) -> Tensor:
        return self.forward.logits[list(self.numbers)]

    @property
    def rectifiers(self) -> int:
        return self.forward.rectifiers

    def demands(self) -> list[Demand]:
        pairs = list(zip(self.numbers, self.targets, strict=True))
        return [Demand(number, target, want) for number, target in pairs for want in self.wants]

    def gradient(self, want: Want) -> Tensor:
        pairs = zip(self.numbers, self.targets, strict=True)
        return torch.stack([self.forward.gradient(Demand(number, target, want)) for number, target in pairs])

    def activation(self, layer: str) -> Tensor:
        return self.forward.activation(layer)[list(self.numbers)]

    def at(self, x: Tensor) -> ForwardRows:
        targets = self.targets * (len(x) // len(self.targets))
        forward = Forward(self.forward.prepared, x, self.wants)
        rows = ForwardRows(forward, range(len(x)), targets, self.wants)
        forward.differentiate(rows.demands())
        forward.release()
        return rows
