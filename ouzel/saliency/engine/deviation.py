"""How far faster arithmetic moves the answers of a network on this device: measured, as no table knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ouzel.errors import FailedPrecondition
from ouzel.precision_names import EXACT
from ouzel.saliency.engine.forward import Forward
from ouzel.saliency.engine.heads import Head, Heads
from ouzel.saliency.engine.prepare import Prepared
from ouzel.saliency.method import GradientSpec
from ouzel.saliency.reductions import REDUCTIONS

INPUTS = 8
_SPEC = GradientSpec()


@dataclass(frozen=True)
class Deviation:
    """The relative L2 deviation from exact arithmetic, |a - exact| / |exact| over all inputs together; 0 is none.

    Attributes:
        logits: Of the logits; None where the exact ones are 0 throughout.
        gradient: Of the maps of the method `gradient`, of the classes that the exact answers predict; None where the
            exact maps are 0 throughout, or the answers do not depend on the image.
        inputs: How many inputs it was measured on.
    """

    logits: float | None
    gradient: float | None
    inputs: int = INPUTS


def inputs(prepared: Prepared, shape: Sequence[int]) -> Tensor:
    """The inputs on which deviations are measured: uniform between black and white, the same at all times.

    Args:
        prepared: Of the network.
        shape: (C, H, W) of one input.

    Returns:
        (INPUTS, C, H, W) float32 on the CPU, as the network takes it.
    """
    drawn = torch.rand((INPUTS, *shape), generator=torch.Generator().manual_seed(0))
    black, white = (torch.tensor(each)[:, None, None] for each in (prepared.facts.black, prepared.facts.white))
    return black + (white - black) * drawn


def measure(prepared: Prepared, like: Tensor, head: Head | None = None) -> Deviation:
    """Compare what a network answers in its precision with what it answers exactly.

    Args:
        prepared: The network, with its precision.
        like: (C, H, W), an input: its size, device and dtype.
        head: That answers, of a network that is shared.
    """
    exactly = replace(prepared, precision=EXACT)
    rows = max(1, min(INPUTS, prepared.rows_per_pass([_SPEC.rule])))
    pairs = []
    for x in inputs(prepared, like.shape).to(like).split(rows):
        heads = None if head is None else Heads.of([head] * len(x))
        exact = _answers(exactly, x, None, heads)
        pairs.append((_answers(prepared, x, exact[0].argmax(dim=1), heads), exact))
    logits = _relative([(ours[0], exact[0]) for ours, exact in pairs])
    maps = [(ours[1], exact[1]) for ours, exact in pairs if ours[1] is not None and exact[1] is not None]
    return Deviation(logits, _relative(maps))


def _answers(
    prepared: Prepared, x: Tensor, classes: Tensor | None, heads: Heads | None
) -> tuple[Tensor, Tensor | None]:
    """(B, K) logits and (B, H, W) maps; of the predicted classes, or of `classes`, (B,)."""
    forward = Forward(prepared, x, (_SPEC,), heads)
    chosen = forward.logits.argmax(dim=1) if classes is None else classes
    weights = torch.zeros_like(forward.logits).scatter_(1, chosen[:, None], 1)
    try:
        gradients = forward.maps_of(_SPEC, forward.backward(_SPEC.rule, [None], weights)[_SPEC])
    except FailedPrecondition:
        return forward.logits, None
    return forward.logits, REDUCTIONS["max_abs"](gradients)


def _relative(pairs: Sequence[tuple[Tensor, Tensor]]) -> float | None:
    """None where all that is compared with is 0."""
    apart = sum(float((ours.double() - exact.double()).square().sum()) for ours, exact in pairs)
    size = sum(float(exact.double().square().sum()) for _, exact in pairs)
    return (apart / size) ** 0.5 if size else None
