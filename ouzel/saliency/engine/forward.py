"""One forward pass and the few backward passes over its graph that several methods and targets share."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ouzel import models
from ouzel.errors import DeadlineExceeded, FailedPrecondition
from ouzel.saliency.engine.prepare import Prepared
from ouzel.saliency.engine.rectifiers import Rectifiers
from ouzel.saliency.method import GradientSpec, ModelFacts, Rule
from ouzel.saliency.targets import ResolvedTarget, cotangent


@dataclass(frozen=True)
class RowGradient:
    """One gradient of one row: of this target, as `spec` says."""

    row: int
    target: ResolvedTarget
    spec: GradientSpec


@dataclass
class Forward:
    """A forward pass whose graph is kept until `release`, or no graph without `specs`.

    x: (B, C, H, W). After construction `logits` is (B, K), detached.
    """

    prepared: Prepared
    x: Tensor
    specs: Iterable[GradientSpec]
    logits: Tensor = field(init=False)
    rectifiers: Rectifiers = field(init=False)

    @torch.inference_mode(False)
    def __post_init__(self) -> None:
        specs = frozenset(self.specs)
        rules = {spec.rule for spec in specs}
        self.rectifiers = Rectifiers(smooth="smooth" in rules)
        self._gradients: dict[RowGradient, Tensor | None] = {}
        x = self.x.clone() if self.x.is_inference() else self.x.detach()
        taps = self.prepared.taps
        layers = sorted({spec.layer for spec in specs if spec.layer is not None})
        of_input = any(spec.layer is None for spec in specs)
        # Where only layers are asked for, nothing before them needs a graph.
        begin = bool(layers) and not of_input and taps.reached(layers)
        x = x.contiguous(memory_format=self.prepared.memory_format)
        self._input = x.requires_grad_(bool(specs) and not begin)
        with torch.set_grad_enabled(bool(specs)):
            # An in-place first layer may not write into the caller's tensor, nor into a leaf of the graph.
            entry = self._input.clone(memory_format=torch.preserve_format)
            with (
                models.forward_pass(self.prepared.precision, x.device),
                taps.recording(layers, begin=begin) as record,
                self.rectifiers if rules - {"plain"} else nullcontext(),
            ):
                self._output = self.prepared.network(entry)
            if self.prepared.precision == "bf16":
                self._output = self._output.to(x.dtype)
        self._record = record
        self.logits = self._output.detach()

    def check(self, spec: GradientSpec) -> None:
        """Raises FailedPrecondition if the pass did not reach the layer, or depends on nothing there."""
        if spec.layer is not None and not self._output_of(spec.layer).requires_grad:
            raise FailedPrecondition(f"layer: the image does not reach {spec.layer!r}", field="layer")
        if not self._output.requires_grad:
            raise FailedPrecondition("method: the model's answer does not depend on the image", field="method")
        if spec.layer is not None:
            self.layout(spec.layer)

    def layout(self, layer: str) -> models.Layout:
        """Raises InvalidArgument for a layer without maps of the image."""
        return self.prepared.layouts.of(layer, self.x)

    def activation(self, layer: str) -> Tensor:
        """(B, c, h, w) output of a layer as maps, detached."""
        return self.layout(layer).maps(self._output_of(layer).detach()).to(self._dtype_of(layer))

    def _dtype_of(self, layer: str) -> torch.dtype:
        """That methods compute in: of the layer's output, of the input where autocast has made it another."""
        return self.x.dtype if self.prepared.precision == "bf16" else self._output_of(layer).dtype

    def _output_of(self, layer: str) -> Tensor:
        """Raises FailedPrecondition if it has no row per image."""
        output = self._record.get(layer)
        if output is None or output.ndim == 0 or len(output) != len(self.x):
            raise FailedPrecondition(
                f"layer: {layer!r} gives no tensor with a row per image in the model's forward pass", field="layer"
            )
        return output

    @torch.inference_mode(False)
    def differentiate(self, row_gradients: Iterable[RowGradient]) -> None:
        """Run as few backward passes as serve all of them, once; `gradient` then answers from memory.

        Rows are independent, so one pass serves one target of every row, for every tensor that is differentiated.
        """
        passes = _pack(row_gradients)
        for number, (rule, rows) in enumerate(passes, 1):
            self._backward(rule, rows, retain_graph=number < len(passes))

    def _backward(self, rule: Rule, rows: dict[int, list[RowGradient]], *, retain_graph: bool) -> None:
        all_layers = {each.spec.layer for row_gradients in rows.values() for each in row_gradients}
        layers = sorted(layer for layer in all_layers if layer is not None)
        names: list[str | None] = [*([None] if None in all_layers else []), *layers]
        inputs = [self._input if name is None else self._output_of(name) for name in names]
        targets = [rows[row][0].target if row in rows else None for row in range(len(self.x))]
        self.rectifiers.rule = rule
        with models.computing(self.prepared.precision):
            gradients = torch.autograd.grad(
                self._output, inputs, cotangent(targets, self.logits), retain_graph=retain_graph, allow_unused=True
            )
        named = dict(zip(names, gradients, strict=True))
        for row_gradients in rows.values():
            for row_gradient in row_gradients:
                gradient = named[row_gradient.spec.layer]
                self._gradients[row_gradient] = None if gradient is None else gradient[row_gradient.row]

    def gradient(self, row_gradient: RowGradient) -> Tensor:
        """Gradient of one row that `differentiate` was asked for, of a layer as maps (c, h, w).

        Raises FailedPrecondition where there is none.
        """
        gradient, layer = self._gradients[row_gradient], row_gradient.spec.layer
        if gradient is None:
            where, name = ("method", "the image") if layer is None else ("layer", repr(layer))
            raise FailedPrecondition(f"{where}: the model's answer does not depend on {name}", field=where)
        if layer is None:
            return gradient
        maps = self.layout(layer).maps(gradient[None])[0].to(self._dtype_of(layer))
        if not maps.any() and gradient.any():
            raise FailedPrecondition(
                f"layer: the model's answer depends on {layer!r} through its class token alone, which has "
                "no place in the image; name an earlier layer",
                field="layer",
            )
        return maps

    def release(self) -> None:
        """Let the graph go; what was computed stays."""
        self._record = {layer: output if output is None else output.detach() for layer, output in self._record.items()}
        self._output = self.logits


def _pack(row_gradients: Iterable[RowGradient]) -> list[tuple[Rule, dict[int, list[RowGradient]]]]:
    """Group gradients into passes: per rule, the k-th pass serves the k-th distinct target of each row."""
    by_rule: dict[Rule, dict[int, dict[ResolvedTarget, list[RowGradient]]]] = {}
    for row_gradient in dict.fromkeys(row_gradients):
        rows = by_rule.setdefault(row_gradient.spec.rule, {})
        rows.setdefault(row_gradient.row, {}).setdefault(row_gradient.target, []).append(row_gradient)
    passes: list[tuple[Rule, dict[int, list[RowGradient]]]] = []
    for rule, rows in by_rule.items():
        depth = max(len(targets) for targets in rows.values())
        passes += [
            (rule, {row: list(targets.values())[k] for row, targets in rows.items() if k < len(targets)})
            for k in range(depth)
        ]
    return passes


@dataclass(frozen=True)
class ForwardRows:
    """`method.Rows` over one forward pass: row numbers of the batch, with one target each.

    Attributes:
        deadline: Of further passes, on the clock of `time.monotonic`.
    """

    forward: Forward
    numbers: Sequence[int]
    targets: tuple[ResolvedTarget, ...]
    specs: tuple[GradientSpec, ...]
    deadline: float | None = None

    @property
    def x(self) -> Tensor:
        """(n, C, H, W), as the model takes it."""
        return self.forward.x[list(self.numbers)]

    @property
    def logits(self) -> Tensor:
        """(n, K)."""
        return self.forward.logits[list(self.numbers)]

    @property
    def rectifiers(self) -> int:
        """How many rectifiers the guided rules act on."""
        return self.forward.rectifiers.count

    @property
    def smooth_activations(self) -> Mapping[str, int]:
        """How many activations the rule "smooth" acts on beside, by name."""
        return self.forward.rectifiers.smooth_count

    def row_gradients(self) -> list[RowGradient]:
        """The gradients of `specs`, for each row."""
        pairs = list(zip(self.numbers, self.targets, strict=True))
        return [RowGradient(number, target, spec) for number, target in pairs for spec in self.specs]

    def gradient(self, spec: GradientSpec) -> Tensor:
        """(n, ...) one of the gradients of `specs`; of a layer, as its activation."""
        pairs = zip(self.numbers, self.targets, strict=True)
        return torch.stack([self.forward.gradient(RowGradient(number, target, spec)) for number, target in pairs])

    def activation(self, layer: str) -> Tensor:
        """(n, c, h, w) output of a layer."""
        return self.forward.activation(layer)[list(self.numbers)]

    @property
    def facts(self) -> ModelFacts:
        """Of the model."""
        return self.forward.prepared.facts

    def score(self) -> Tensor:
        """(n,) each row's target, a logit or a difference of two."""
        return (self.logits * cotangent(self.targets, self.logits)).sum(dim=1)

    def probability(self) -> Tensor:
        """(n,) the same of the probabilities."""
        return (models.probabilities(self.logits) * cotangent(self.targets, self.logits)).sum(dim=1)

    def evaluate_at(self, x: Tensor, specs: tuple[GradientSpec, ...] | None = None) -> ForwardRows:
        """The same targets at other inputs, see `method.Rows.evaluate_at`."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineExceeded("the time that the caller gave is over; the work was stopped")
        targets = self.targets * (len(x) // len(self.targets))
        specs = self.specs if specs is None else specs
        forward = Forward(self.forward.prepared, x, specs)
        rows = ForwardRows(forward, range(len(x)), targets, specs, self.deadline)
        forward.differentiate(rows.row_gradients())
        forward.release()
        return rows

    def blocks(self, specs: tuple[GradientSpec, ...] | None = None) -> int:
        """How many blocks of n rows one such pass may have at most."""
        specs = self.specs if specs is None else specs
        rules = {spec.rule for spec in specs}
        return max(1, self.forward.prepared.rows_per_pass(rules) // len(self.targets))
