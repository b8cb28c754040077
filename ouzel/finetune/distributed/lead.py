"""What rank 0 does for the others: starts them, tells them what to compute, and notices when one is lost."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.finetune.distributed.group import Group, Rendezvous
from ouzel.finetune.distributed.messages import Begin, Share, Step
from ouzel.finetune.events import OnEvent, starting
from ouzel.finetune.recipes import Recipe
from ouzel_protos.recipes import workers_problem


class RankLost(OuzelError):
    """A rank has ended, or did not answer. The training can go on from the state that was told last.

    Another class than Unavailable, which within a job means the job store.
    """

    code = "UNAVAILABLE"
    http = 503


class Others(Protocol):
    """The ranks other than 0, while they run."""

    rendezvous: Rendezvous
    address: str  # of this process, for the others
    store: Any  # of the rendezvous, where this process holds it; None elsewhere

    def ready(self, tell: Callable[[], None]) -> None:
        """Waits until all can take messages, and calls `tell` now and then. Raises RankLost, and what `tell` does."""

    def send(self, rank: int, message: bytes) -> None:
        """Hands a message to a rank, and does not wait for it."""

    def lost(self, seconds: float) -> Exception | None:
        """Why a rank has ended, MemoryError or RankLost, if one does within some seconds."""

    def close(self) -> None:
        """Ends all of them."""


class Launcher(Protocol):
    """Starts ranks somewhere."""

    def __call__(self, ranks: int) -> Others:
        """Starts all ranks but 0. Raises OuzelError."""


class Lead:
    """Rank 0. The others are started at once, and waited for when the first epoch begins.

    Args:
        launcher: Starts them.
        ranks: How many there are, with this one.
        on_event: Hears that the others start, while they are waited for.
    """

    def __init__(self, launcher: Launcher, ranks: int, on_event: OnEvent) -> None:
        self.ranks, self._on_event = ranks, on_event
        self._others = launcher(ranks)
        self._group: Group | None = None

    @property
    def group(self) -> Group:
        """The process group, which begins when it is first asked for. Raises RankLost."""
        if self._group is None:
            others = self._others
            others.ready(lambda: self._on_event(starting(self.ranks - 1)))
            with self.watched():
                self._group = Group(others.rendezvous, 0, self.ranks, address=others.address, store=others.store)
        return self._group

    def begin(self, told: Begin) -> None:
        """Has all ranks begin an epoch with the network as it is here. Raises FailedPrecondition."""
        group = self.group  # they take messages once they are in it
        try:
            message = packed(told)
        except (AttributeError, TypeError, RuntimeError) as error:  # pickle's ways to refuse
            reason = f"workers: this network cannot be given to other processes ({error})"
            raise FailedPrecondition(reason, field="workers") from error
        for rank in range(1, group.ranks):
            self._others.send(rank, message)

    def step(self, parts: Sequence[Share], rates: Sequence[float]) -> None:
        """Has the other ranks take a step, in which this one must take part."""
        for part in parts[1:]:
            self._others.send(part.rank, packed(Step(part, tuple(rates))))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, an error that comes of a lost rank is told as that. Raises RankLost or MemoryError."""
        try:
            yield
        except RuntimeError as error:
            of_ranks = isinstance(error, torch.distributed.DistError) or _is_of_ranks(str(error))
            if (lost := self._others.lost(_SETTLE if of_ranks else 0.0)) is not None:
                raise lost from error
            if of_ranks:
                raise RankLost(f"workers: a worker of the training does not answer ({_first(error)})") from error
            raise

    def close(self) -> None:
        """Ends the other ranks."""
        self._others.close()
        if self._group is not None:
            self._group.close()
            self._group = None


@contextmanager
def leading(launcher: Launcher, workers: int, on_event: OnEvent) -> Iterator[Lead | None]:
    """The lead of so many workers, while the block runs; None of one alone. on_event: see `Lead`."""
    if workers == 1:
        yield None
        return
    lead = Lead(launcher, workers, on_event)
    try:
        yield lead
    finally:
        lead.close()


def check_workers(recipe: Recipe, workers: int) -> None:
    """Refuses workers that a recipe cannot use. Raises InvalidArgument."""
    if problem := workers_problem(recipe.name, workers, recipe.batch_size):
        raise InvalidArgument(problem, field="workers")


def packed(message: Begin | Step) -> bytes:
    """A message as bytes."""
    file = io.BytesIO()
    torch.save(message, file)
    return file.getvalue()


def unpacked(message: bytes) -> Begin | Step:
    """The reverse of `packed`. It runs what the message says: only for messages of the process that started this one.

    All tensors are on the CPU then.
    """
    told: Begin | Step = torch.load(io.BytesIO(message), map_location="cpu", weights_only=False)
    return told


_SETTLE = 10.0  # s in which a rank whose connection has broken is seen to have ended


# What gloo, NCCL and their stores say when a peer is gone or silent; PyTorch has no class for it.
_OF_RANKS = (
    "gloo",
    "nccl",
    "connection closed",
    "connection reset",
    "broken pipe",
    "pair closure",
    "timed out",
    "timeout",
)


def _is_of_ranks(text: str) -> bool:
    return any(word in text.lower() for word in _OF_RANKS)


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
