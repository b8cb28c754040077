"""What a job that tunes tells while it trains, and its checkpoints.

A checkpoint is the state of the training; where there are audits, versions that were published, or trials of a search,
it holds theirs beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ouzel.worker.kinds.context import JobContext, JobInterrupted
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Event

_SAVE_SHARE = 20  # a checkpoint may cost a twentieth of the time
_TRAINING, _AUDITS, _PUBLISHED, _SEARCHED = "training bytes", "audits", "published", "searched"
_PHASES = {
    "starting": "starting workers",
    "features": "computing features",
    "head": "head",
    "training": "training",
    "validating": "validating",
}


class Told:
    """Hands the library's events on, saves, and raises JobInterrupted when that is wanted.

    Attributes:
        resumed: The state of the training of an earlier attempt; None without one.
        audits: The states of audits, by what is audited.
        published: What was published, by its number.
        searched: The trials of a search, those that have ended and those that run, see `searching`; empty without one.
        doing: What the training is part of, before the name of the phase.
    """

    def __init__(self, context: JobContext) -> None:
        self._work = context
        self._state: Callable[[], dict[str, Any]] | None = None
        self._saving = 0.0  # seconds that the last checkpoint took
        self._saved = time.monotonic()
        self._training: bytes | None = None  # the last checkpoint
        self.audits: Mapping[str, Any] = {}
        self.published: Mapping[int, Any] = {}
        self.searched: Mapping[str, Any] = {}
        self.doing = ""
        self.resumed = self._read()

    def _read(self) -> Any:
        from ouzel.worker.kinds import checkpoint

        if self._work.checkpoint is None:
            return None
        state = checkpoint.read(self._work.checkpoint)
        if _TRAINING not in state:
            self._training = self._work.checkpoint
            return state
        self.audits, self.published = state[_AUDITS], state.get(_PUBLISHED, {})
        self.searched = state.get(_SEARCHED, {})
        if state[_TRAINING] is None:
            return None
        self._training = state[_TRAINING].numpy().tobytes()
        return checkpoint.read(self._training)

    def __call__(self, event: Event) -> None:
        """Hears an event. Raises JobInterrupted, LeaseLost or ResourceExhausted."""
        context = self._work
        context.progress(event.step, event.steps, self.doing + _PHASES[event.phase], event.metrics)
        if event.phase == "validating":  # to stop here would lose an epoch
            return
        stop = context.stop_wanted()
        self._state = event.state or self._state
        due = context.save_wanted() and time.monotonic() - self._saved >= _SAVE_SHARE * self._saving
        # The head is a result already, and the last step would be a pity to lose. One that an earlier attempt has saved
        # is no news: were it saved again, a job could fail behind it for ever.
        due |= event.step == event.steps and not (event.phase == "head" and self._knows_head)
        if event.state is not None and (stop or due):
            begun = time.monotonic()
            self.keep_best()
            self._saved = time.monotonic()
            self._saving = self._saved - begun
        if stop:
            raise JobInterrupted

    def on_scene(self, count: int) -> None:
        """An image was read, to cut its object out."""
        self._work.progress(count, phase="cutting objects out")
        if self._work.stop_wanted():
            raise JobInterrupted

    def keep_best(self) -> None:
        """Save where the training stands, and its best so far."""
        from ouzel.worker.kinds import checkpoint

        if self._state is not None:
            self._training = checkpoint.dump(self._state())
            self._save()

    def keep_audits(self, states: Mapping[str, Any]) -> None:
        """Save where audits stand, beside the training."""
        self.audits = dict(states)
        self._save()

    def keep_published(self, number: int, version: Mapping[str, Any], event: pb.JobEvent) -> None:
        """Save what was published, and tell it: both or neither.

        Args:
            number: Of the publication.
            version: Of JSON's types.
            event: That tells it.
        """
        self.published = {**self.published, number: dict(version)}
        self._save([event])

    def keep_trials(self, searched: Mapping[str, Any], event: pb.JobEvent) -> None:
        """Save the trials of a search, and tell what has become of one: both or neither.

        The training that follows is another one, of which no state is known.

        Args:
            searched: See the attribute.
            event: That tells it.
        """
        self.searched = dict(searched)
        self._training = self._state = self.resumed = None
        self._save([event])

    def _save(self, events: Sequence[pb.JobEvent] = ()) -> None:
        import numpy as np
        import torch

        from ouzel.worker.kinds import checkpoint

        content = self._training
        if content is None and not self.searched:
            return
        if content is None or self.audits or self.published or self.searched:
            packed = None if content is None else torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
            rest = {_AUDITS: self.audits, _PUBLISHED: self.published, _SEARCHED: self.searched}
            content = checkpoint.dump({_TRAINING: packed, **rest})
        self._work.save(content, events)

    @property
    def _knows_head(self) -> bool:
        """Whether an earlier attempt has saved it."""
        return self.resumed is not None and bool(self.resumed.get("head"))
