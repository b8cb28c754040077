"""Networks that have all but their last layer in common: each row of a batch is answered by a head of its own.

A `SharedHead` stands where such a network has its last linear layer. Within `answering`, its input goes to the heads
that the batch names: one product per head, so that a batch of one head computes what the head's own network computes.
Heads may tell different numbers of classes apart. The logits are then padded to the widest with the lowest number that
there is: no place of a prediction is ever one of the padding, and probabilities are taken of a row's own logits alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel import models
from ouzel.saliency.transfer import sent


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a classifier.

    Attributes:
        weight: (K, F), where the network is.
        bias: (K,).
        labels: Names of the K classes.
    """

    weight: Tensor
    bias: Tensor
    labels: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """K."""
        return len(self.bias)


@dataclass(frozen=True, eq=False)
class Heads:
    """Which head answers each row of a batch.

    Attributes:
        rows: One per row.
        width: Logits of each row, as many as the widest head has, or more.
    """

    rows: tuple[Head, ...]
    width: int

    @classmethod
    def of(cls, rows: Sequence[Head]) -> Heads:
        """As wide as its widest."""
        return cls(tuple(rows), max(head.classes for head in rows))

    @property
    def alike(self) -> bool:
        """Whether one head of full width answers all rows."""
        first = self.rows[0]
        return first.classes == self.width and all(head is first for head in self.rows)

    def chosen(self, numbers: Sequence[int]) -> Heads:
        """Of these rows, as wide as before."""
        return Heads(tuple(self.rows[number] for number in numbers), self.width)

    def logits(self, features: Tensor) -> Tensor:
        """(B, width) of (B, F)."""
        if len(features) != len(self.rows):
            raise RuntimeError(f"{len(features)} rows of features for {len(self.rows)} heads")
        if self.alike:
            return F.linear(features, self.rows[0].weight, self.rows[0].bias)
        heads = {id(head): head for head in self.rows}

        def of_head(key: int, rows: Tensor) -> Tensor:
            head = heads[key]
            logits = F.linear(rows, head.weight, head.bias)
            return F.pad(logits, (0, self.width - head.classes), value=torch.finfo(logits.dtype).min)

        return self._by([id(head) for head in self.rows], features, of_head)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, width) of (B, width) logits: of each row's own classes, 0 for the padding."""
        if self.alike:
            return models.probabilities(logits)

        def of_count(count: int, rows: Tensor) -> Tensor:
            return F.pad(models.probabilities(rows[:, :count]), (0, self.width - count))

        return self._by([head.classes for head in self.rows], logits, of_count)

    def _by(self, keys: Sequence[int], tensor: Tensor, make: Callable[[int, Tensor], Tensor]) -> Tensor:
        """What `make` gives for the rows of each key, in the order of the rows."""
        groups: dict[int, list[int]] = {}
        for number, key in enumerate(keys):
            groups.setdefault(key, []).append(number)
        if len(groups) == 1:
            return make(keys[0], tensor)
        parts = [make(key, tensor.index_select(0, self._sent(rows, tensor.device))) for key, rows in groups.items()]
        order = [number for rows in groups.values() for number in rows]
        places = sorted(range(len(order)), key=order.__getitem__)
        return torch.cat(parts).index_select(0, self._sent(places, tensor.device))

    @staticmethod
    def _sent(numbers: Sequence[int], device: torch.device) -> Tensor:
        return sent(numbers, device, torch.int64)


class SharedHead(nn.Linear):
    """The last layer of a network that heads share. Out of `answering` it is the linear layer that it was made of."""

    @classmethod
    def of(cls, layer: nn.Linear) -> SharedHead:
        """In place of a linear layer, with its weights."""
        head = cls(1, 1, device="meta")
        head.in_features, head.out_features = layer.in_features, layer.out_features
        head.weight, head.bias = layer.weight, layer.bias
        return head.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) of (B, F)."""
        turn = _turn.get()
        if turn is None:
            return super().forward(x)
        turn.taken += 1
        return turn.heads.logits(x)

    def _get_name(self) -> str:
        return "Linear"  # in a network's description, by which its faster memory format is remembered


@dataclass
class _Turn:
    heads: Heads
    taken: int = field(default=0)


_turn: ContextVar[_Turn | None] = ContextVar("ouzel_heads", default=None)


@contextmanager
def answering(heads: Heads | None) -> Iterator[None]:
    """One forward pass of this thread whose rows these heads answer; None leaves the network as it is.

    Raises RuntimeError if the pass did not ask its heads exactly once: its answer would be that of another model.
    """
    if heads is None:
        yield
        return
    turn = _Turn(heads)
    token = _turn.set(turn)
    try:
        yield
    finally:
        _turn.reset(token)
    if turn.taken != 1:
        raise RuntimeError(f"a forward pass has asked its heads {turn.taken} times")


class Headed(nn.Module):
    """A network with one of its heads: (B, C, H, W) to (B, K).

    Args:
        network: With a `SharedHead`.
        head: That answers.
    """

    def __init__(self, network: nn.Module, head: Head) -> None:
        super().__init__()
        self.network, self._head = network, head

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        with answering(Heads.of([self._head] * len(x))):
            logits: Tensor = self.network(x)
        return logits


@dataclass(frozen=True)
class Installed:
    """A network whose last layer is a `SharedHead`.

    Attributes:
        network: Its own layers are those of before.
        after: Layers whose output depends on the head: it, those around it, and those after it.
    """

    network: nn.Module
    after: frozenset[str]


def install(network: nn.Module, name: str, example: Tensor) -> Installed | None:
    """Put a `SharedHead` in place of a network's last linear layer.

    Args:
        network: In eval mode. It is changed.
        name: Of the layer.
        example: (1, C, H, W), an input.

    Returns:
        The network; None, and the network as it was, if its answer is not what the layer gives for one row of features
        per image, in one call.
    """
    layer = network.get_submodule(name)
    if type(layer) is not nn.Linear or layer.bias is None:
        return None
    watch = _Watch(network, name)
    with watch, torch.no_grad():
        answer = network(example.clone())
    head, ended = watch.outputs, watch.ended
    if len(head) != 1 or not isinstance(answer, Tensor) or answer.ndim != 2 or watch.features != (1, layer.in_features):
        return None
    if answer.shape != head[0].shape or answer.data_ptr() != head[0].data_ptr():
        return None
    network.set_submodule(name, SharedHead.of(layer))
    return Installed(network, frozenset(ended[ended.index(name) :]))


class _Watch:
    """Notes in which order layers end, and what the head gives, while it is entered."""

    def __init__(self, network: nn.Module, head: str) -> None:
        self.ended: list[str] = []
        self.outputs: list[Tensor] = []
        self.features: tuple[int, ...] = ()
        self._network, self._head = network, head

    def __enter__(self) -> None:
        modules = self._network.named_modules(remove_duplicate=False)
        self._handles = [module.register_forward_hook(self._hook(name)) for name, module in modules]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def ended(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            self.ended.append(name)
            if name == self._head:
                self.outputs.append(output)
                self.features = tuple(given[0].shape) if given else ()

        return ended
