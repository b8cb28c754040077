"""One forward pass, the backward passes over its graph, and what a method sees of them: whole batches throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ouzel import models
from ouzel.errors import DeadlineExceeded, FailedPrecondition
from ouzel.saliency.engine.chosen import Chosen
from ouzel.saliency.engine.functionals import Functionals
from ouzel.saliency.engine.heads import Heads, answering
from ouzel.saliency.engine.prepare import Prepared
from ouzel.saliency.engine.rectifiers import Rectifiers
from ouzel.saliency.method import GradientSpec, ModelFacts, Rule


@dataclass
class Forward:
    """A forward pass whose graph is kept until `release`, or no graph without `specs`.

    x: (B, C, H, W); after construction in the network's memory format, and `logits` is (B, K), or (B, K, H, W) of a
    network that answers each pixel, both detached. heads: of a network that is shared, one per row.
    """

    prepared: Prepared
    x: Tensor
    specs: Iterable[GradientSpec]
    heads: Heads | None = None
    logits: Tensor = field(init=False)
    rectifiers: Rectifiers = field(init=False)

    @torch.inference_mode(False)
    def __post_init__(self) -> None:
        specs = frozenset(self.specs)
        rules = {spec.rule for spec in specs}
        self.rectifiers = Rectifiers(smooth="smooth" in rules)
        x = self.x.clone() if self.x.is_inference() else self.x.detach()
        taps = self.prepared.taps
        layers = sorted({spec.layer for spec in specs if spec.layer is not None})
        of_input = any(spec.layer is None for spec in specs)
        # Where only layers are asked for, nothing before them needs a graph.
        begin = bool(layers) and not of_input and taps.reached(layers)
        self.x = x.contiguous(memory_format=self.prepared.memory_format)
        self._input = self.x.detach().requires_grad_(bool(specs) and not begin)
        with torch.set_grad_enabled(bool(specs)):
            # An in-place first layer may not write into the caller's tensor, nor into a leaf of the graph.
            entry = self._input.clone(memory_format=torch.preserve_format)
            with (
                models.forward_pass(self.prepared.precision, x.device),
                taps.recording(layers, begin=begin) as record,
                answering(self.heads),
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
        self._check_differentiable()
        if spec.layer is not None:
            self.layout(spec.layer)

    def _check_differentiable(self) -> None:
        if not self._output.requires_grad:
            raise FailedPrecondition("method: the model's answer does not depend on the image", field="method")

    def layout(self, layer: str) -> models.Layout:
        """Raises InvalidArgument for a layer without maps of the image."""
        return self.prepared.layouts.of(layer, self.x, None if self.heads is None else self.heads.chosen([0]))

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
    def backward(
        self, rule: Rule, layers: Sequence[str | None], weights: Tensor, *, retain_graph: bool = False
    ) -> dict[GradientSpec, Tensor | None]:
        """One backward pass.

        Args:
            rule: How rectifiers pass the gradient on.
            layers: Whose gradients are wanted; None is the input.
            weights: Of the logits in what is differentiated, in their shape.
            retain_graph: Whether another pass follows.

        Returns:
            The gradients, (B, ...) as the layers put them out; None where the answer does not depend on the layer.

        Raises:
            FailedPrecondition: The answer depends on nothing.
        """
        self._check_differentiable()
        inputs = [self._input if layer is None else self._output_of(layer) for layer in layers]
        self.rectifiers.rule = rule
        with models.computing(self.prepared.precision):
            gradients = torch.autograd.grad(self._output, inputs, weights, retain_graph=retain_graph, allow_unused=True)
        return {GradientSpec(rule, layer): one for layer, one in zip(layers, gradients, strict=True)}

    def maps_of(self, spec: GradientSpec, gradient: Tensor | None) -> Tensor:
        """A gradient of `backward`, or rows of it; of a layer as maps (n, c, h, w).

        Raises FailedPrecondition where there is none.
        """
        layer = spec.layer
        if gradient is None:
            where, name = ("method", "the image") if layer is None else ("layer", repr(layer))
            raise FailedPrecondition(f"{where}: the model's answer does not depend on {name}", field=where)
        return gradient if layer is None else self.layout(layer).maps(gradient).to(self._dtype_of(layer))

    def release(self) -> None:
        """Let the graph go; what was computed stays."""
        self._record = {layer: output if output is None else output.detach() for layer, output in self._record.items()}
        self._output = self.logits


Over = Callable[[], bool]
"""Whether nobody waits any more."""


@dataclass(frozen=True)
class ForwardRows:
    """`method.Rows` over one forward pass.

    Attributes:
        forward: The pass.
        numbers: Of its rows, n.
        functionals: What is explained, n.
        gradients: What the backward passes gave, (n, ...) each.
        chosen: Of the batch.
        specs: The gradients that were asked for.
        over: Whether nobody waits for further passes any more; None if somebody always does.
    """

    forward: Forward
    numbers: Sequence[int]
    functionals: Functionals
    gradients: Mapping[GradientSpec, Tensor | None]
    chosen: Chosen
    specs: tuple[GradientSpec, ...]
    over: Over | None = None

    @cached_property
    def x(self) -> Tensor:
        """(n, C, H, W), as the model takes it."""
        return self.chosen.rows(self.forward.x, self.numbers)

    @cached_property
    def logits(self) -> Tensor:
        """(n, K), or (n, K, H, W)."""
        return self.chosen.rows(self.forward.logits, self.numbers)

    @property
    def rectifiers(self) -> int:
        """How many rectifiers the guided rules act on."""
        return self.forward.rectifiers.count

    @property
    def smooth_activations(self) -> Mapping[str, int]:
        """How many activations the rule "smooth" acts on beside, by name."""
        return self.forward.rectifiers.smooth_count

    def gradient(self, spec: GradientSpec) -> Tensor:
        """(n, ...) one of the gradients of `specs`; of a layer, as its activation."""
        return self.forward.maps_of(spec, self.gradients[spec])

    def activation(self, layer: str) -> Tensor:
        """(n, c, h, w) output of a layer."""
        return self.chosen.rows(self.forward.activation(layer), self.numbers)

    @property
    def facts(self) -> ModelFacts:
        """Of the model."""
        return self.forward.prepared.facts

    def score(self) -> Tensor:
        """(n,) each row's target, a logit or a difference of two."""
        return self.functionals.of(self.logits)

    def probability(self) -> Tensor:
        """(n,) the same of the probabilities."""
        heads = self._heads
        own = self.functionals if heads is None else heads
        return self.functionals.of(own.probabilities(self.logits))

    @property
    def _heads(self) -> Heads | None:
        return None if self.forward.heads is None else self.forward.heads.chosen(self.numbers)

    def evaluate_at(self, x: Tensor, specs: tuple[GradientSpec, ...] | None = None) -> ForwardRows:
        """The same targets at other inputs, see `method.Rows.evaluate_at`."""
        if self.over is not None and self.over():
            raise DeadlineExceeded("the caller's time is over, or the caller has left; the work was stopped")
        specs = self.specs if specs is None else specs
        functionals = self.functionals.blocks(max(1, len(x) // len(self.functionals)))
        heads = self._heads
        if heads is not None and len(x) < len(functionals) and not heads.alike:  # one image, which each head sees
            x = x.expand(len(functionals), -1, -1, -1)
        if heads is not None:
            heads = heads.chosen([number % len(self.functionals) for number in range(len(x))])
        forward = Forward(self.forward.prepared, x, specs, heads)
        gradients: dict[GradientSpec, Tensor | None] = {}
        rules = list(dict.fromkeys(spec.rule for spec in specs))
        for number, rule in enumerate(rules, 1):
            layers = [spec.layer for spec in specs if spec.rule == rule]
            gradients |= forward.backward(rule, layers, functionals.gradient, retain_graph=number < len(rules))
        forward.release()
        numbers = [0] * len(functionals) if len(x) < len(functionals) else range(len(x))
        return ForwardRows(forward, numbers, functionals, gradients, self.chosen, specs, self.over)

    def blocks(self, specs: tuple[GradientSpec, ...] | None = None) -> int:
        """How many blocks of n rows one such pass may have at most."""
        specs = self.specs if specs is None else specs
        rules = {spec.rule for spec in specs}
        return max(1, self.forward.prepared.rows_per_pass(rules) // len(self.functionals))
