"""A job that publishes twice: the head alone before all layers learn, and what they came to if it is better.

Each of the two is published once, in this order. The model store keeps one version for each number of a job; what was
published is in the checkpoint, together with the event that tells it, before the job goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ouzel.errors import InvalidArgument
from ouzel.worker.kinds import promotion
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, proof_files
from ouzel.worker.kinds.finetune_progress import Told
from ouzel_protos.recipes import EARLY, FINETUNE_DEFAULT, STAGED
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune.early import Improvement
    from ouzel.ledger.recorder import Recorded

FIRST, SECOND = 1, 2


def validate(spec: pb.FinetuneSpec, parameters: Mapping[str, Any]) -> None:
    """Refuses what has no head that learns before all layers do. Raises InvalidArgument."""
    if not spec.early:
        return
    recipe = spec.recipe or FINETUNE_DEFAULT
    if recipe not in EARLY:
        raise InvalidArgument(
            f"early: {recipe} has no head that learns before all layers do, as {', '.join(EARLY)} have",
            field="early",
        )
    for name in ("frozen_epochs", "epochs"):
        if recipe in STAGED and parameters.get(name) == 0:
            raise InvalidArgument(
                f"early: the new part learns alone before all layers do, and parameters.{name} is 0", field="early"
            )


@dataclass(frozen=True)
class Published:
    """A version that a job has published.

    Attributes:
        named: What the summary says of it: model, version, digest, promoted, served.
        lineage: Of the version.
        before: The default of its name when it was judged, NAME@VERSION; "" without one.
        gate: The verdict of its gate, as `GateVerdict.to_dict` gives it; None if it was not asked.
        proof: What proves the gate's entry in the log: by name, the media type and the text.
    """

    named: Mapping[str, Any]
    lineage: Mapping[str, Any]
    before: str = ""
    gate: Mapping[str, Any] | None = None
    proof: Mapping[str, Sequence[str]] | None = None

    @property
    def name(self) -> str:
        """NAME@VERSION."""
        return f"{self.named['model']}@{self.named['version']}"

    def files(self) -> list[File]:
        """The proof, as artifacts."""
        return [File(name, media_type, text.encode()) for name, (media_type, text) in (self.proof or {}).items()]


def proof_of(entry: Recorded | None, publication: int, *, early: bool) -> dict[str, Sequence[str]]:
    """As `Published` keeps it. The first of two has a folder of its own."""
    folder = "ledger/first" if early and publication == FIRST else "ledger"
    return {each.name: (each.media_type, each.content.decode()) for each in proof_files(entry, folder)}


class Early:
    """The two versions of one job.

    Args:
        spec: Of the job.
        context: Of the job.
        told: Has what earlier attempts have published.

    Attributes:
        network: The tuning that was published first; None until the library gives it.
    """

    def __init__(self, spec: pb.FinetuneSpec, context: JobContext, told: Told) -> None:
        self._spec, self._context, self._told = spec, context, told
        self._published = {number: Published(**values) for number, values in told.published.items()}
        self.network: Any = None

    @property
    def first(self) -> Published:
        """The version that was published first."""
        return self._published[FIRST]

    def give(self, network: Any, publish: Callable[[], Published]) -> None:
        """Publishes the head alone, unless an attempt before this one has done that.

        Args:
            network: The tuning, as the library gives it.
            publish: Does it.

        Raises:
            JobInterrupted: The job is to stop.
            OuzelError: It is not published.
        """
        self.network = network
        self._once(FIRST, publish)

    def second(self, publish: Callable[[], Published]) -> Published:
        """Publishes what is better, unless an attempt before this one has done that. As `give`."""
        return self._once(SECOND, publish)

    def compared(self, improvement: Improvement) -> Improvement:
        """Whether the training is better than the head alone.

        What an attempt before this one has published was better: another device may round otherwise today.

        Args:
            improvement: As it is found now.
        """
        kept = self._kept()
        if kept is not None and not improvement.better:
            figures = {name: value for name, value in kept.items() if isinstance(value, (int, float))}
            improvement = replace(improvement, better=True, same=False, reason=str(kept["reason"]), figures=figures)
        self._context.log(f"the training is {improvement.reason}")
        return improvement

    def improves_on(self, improvement: Improvement) -> dict[str, Any]:
        """What the lineage of the second version says of the first."""
        version = {name: self.first.named[name] for name in ("version", "digest")}
        return {"improves_on": {**version, "reason": improvement.reason, **improvement.figures}}

    def outcome(
        self, improvement: Improvement, later: Mapping[str, Any], second: Published | None = None
    ) -> dict[str, Any]:
        """What the summary says of both.

        Args:
            improvement: Of the training.
            later: The figures of the training on the held-out images.
            second: The version that it became; None if it is not better.
        """
        nothing = {"version": "", "digest": "", "promoted": False, "served": False}
        versions = [
            {name: published.named[name] for name in nothing} if published is not None else nothing
            for published in (self.first, second)
        ]
        first = versions[0] | dict(self.first.lineage["metrics"])
        if self.first.gate is not None:
            first["gate"] = {name: self.first.gate[name] for name in ("passed", "reason", "against")}
        both = {"first": first, "later": versions[1] | dict(later)}
        return {**both, "better": improvement.better, "reason": improvement.reason, **improvement.figures}

    def named_now(self, published: Published) -> dict[str, Any]:
        """What the summary says of a version at the end of the job: others may have promoted another one meanwhile."""
        promoted = promotion.is_default(published.named["model"], published.named["version"], self._context)
        return {**published.named, "promoted": promoted}

    def tell_what_stays(self) -> None:
        """Of a job that fails: what it has published is not undone."""
        if FIRST in self._published:
            self._context.log(f"{self.first.name}, which was published before, stays", pb.Log.WARNING)

    def _kept(self) -> Mapping[str, Any] | None:
        """What the lineage of the second version says, if an earlier attempt has published it."""
        if SECOND in self._published:
            return dict(self._published[SECOND].lineage["improves_on"])
        mine = promotion.own_version(self._spec, self._context, SECOND)
        return None if mine is None else dict((mine.lineage or {})["improves_on"])

    def _once(self, number: int, publish: Callable[[], Published]) -> Published:
        if number not in self._published:
            if self._context.stop_wanted():
                raise JobInterrupted
            published = publish()
            event = pb.JobEvent(publication=pb.Publication(number=number, **published.named))
            self._told.keep_published(number, asdict(published), event)
            self._published[number] = published
        return self._published[number]
