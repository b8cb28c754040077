"""Which rows go through the network together, and how their nodes are read, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ouzel.maximize.engine.fused import Fused, fuse
from ouzel.maximize.engine.truncated import Truncated
from ouzel.maximize.nodes import Readout


@dataclass
class Pass:
    """Nodes of one layer, with `copies` rows each.

    Attributes:
        readouts: Of the nodes.
        copies: Rows per node.
        rows: Of the batch, as a slice or as indices (n,).
        numbers: Of the nodes, among all.
    """

    readouts: Sequence[Readout]
    copies: int
    rows: slice | Tensor
    numbers: Sequence[int] = ()
    _weights: Tensor | None = None
    _fused: Fused | None = field(default=None, repr=False)

    @property
    def layer(self) -> str:
        """Its name."""
        return self.readouts[0].layer

    def of(self, batch: Tensor) -> Tensor:
        """Its rows."""
        return batch[self.rows] if isinstance(self.rows, slice) else batch.index_select(0, self.rows)

    def own(self) -> Iterator[slice]:
        """The rows of each node, among those of the pass."""
        return (slice(start, start + self.copies) for start in range(0, len(self.readouts) * self.copies, self.copies))

    def fused(self, network: Truncated) -> Fused | None:
        """Reads the nodes off the input of their layer, if that is a plain convolution."""
        if self._fused is None and (convolution := network.convolution(self.layer)) is not None:
            self._fused = fuse(*convolution, [each.weights for each in self.readouts])
        return self._fused

    def read(self, output: Tensor) -> Tensor:
        """(n, C, h, w) or (n, C) of the layer to (n,)."""
        if self._weights is None:
            self._weights = self._stacked(output)
        if output.ndim == 4 and self._weights.ndim == 2:
            output = output.mean(dim=(2, 3))
        return (output * self._weights).flatten(1).sum(dim=1)

    def _stacked(self, output: Tensor) -> Tensor:
        weights = [each.weights.to(output) for each in self.readouts]
        if any(each.ndim == 3 for each in weights):
            places = output.shape[2] * output.shape[3]
            weights = [
                each if each.ndim == 3 else (each / places)[:, None, None].expand(output.shape[1:]) for each in weights
            ]
        return torch.stack(weights).repeat_interleave(self.copies, 0)


@dataclass(frozen=True)
class Plan:
    """Passes that take all rows.

    Attributes:
        passes: In order.
        order: (n,), where in the results of the passes each row is; None where they come as the rows are.
    """

    passes: tuple[Pass, ...]
    order: Tensor | None

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """(n, ...) of what the passes gave."""
        whole = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
        return whole if self.order is None else whole.index_select(0, self.order)


def plan(readouts: Sequence[Readout], copies: int, most: int, device: torch.device) -> Plan:
    """most: rows per pass, a multiple of `copies`."""
    layers: dict[str, list[int]] = {}
    for number, read in enumerate(readouts):
        layers.setdefault(read.layer, []).append(number)
    passes, taken, together = [], list[int](), most // copies
    for numbers in layers.values():
        for start in range(0, len(numbers), together):
            part = numbers[start : start + together]
            rows = [row for number in part for row in range(number * copies, (number + 1) * copies)]
            adjoining = rows == list(range(rows[0], rows[-1] + 1))
            where = slice(rows[0], rows[-1] + 1) if adjoining else torch.tensor(rows, device=device)
            passes.append(Pass([readouts[number] for number in part], copies, where, part))
            taken += rows
    order = None if taken == sorted(taken) else torch.tensor(taken, device=device).argsort()
    return Plan(tuple(passes), order)
