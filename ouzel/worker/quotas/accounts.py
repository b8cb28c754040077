"""What one owner is told of usage, quotas and the cost of a job."""

from __future__ import annotations

from dataclasses import asdict

from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.worker.quotas.quotes import Quotes, too_dear
from ouzel.worker.quotas.storage import Storage
from ouzel.worker.store.accounts import AccountStore
from ouzel.worker.store.job import NewJob, slots_of
from ouzel.worker.store.limits import EachLimits, Limits
from ouzel.worker.store.roster import Roster
from ouzel_protos.v1 import job_pb2 as pb


class Accounts:
    """The accounts of owners.

    Args:
        store: Holds them.
        storage: Knows what is stored.
        limits: Of each owner.
        quotes: Of jobs.
        slots: That this worker has.
    """

    def __init__(
        self, store: AccountStore, storage: Storage, limits: EachLimits, quotes: Quotes, slots: int = 1
    ) -> None:
        self._store, self._storage, self._limits, self._quotes, self._slots = store, storage, limits, quotes, slots

    def limits(self, owner: str) -> Limits:
        """The limits of an owner."""
        return self._limits.of(owner)

    def quoted(self, owner: str, new: NewJob) -> tuple[pb.Quote | None, OuzelError | None]:
        """The quote of a job, and why it must not be made."""
        quote = self._quotes.quote(new.spec)
        refusal = self._too_wide(owner, new.spec) or too_dear(quote, new.spec) or self._storage.refusal(owner)
        return None if quote is None else quote.message(), refusal

    def _too_wide(self, owner: str, spec: pb.JobSpec) -> OuzelError | None:
        """Why a job is refused that would wait for slots for ever."""
        needed, running = slots_of(spec), self._limits.of(owner).running
        others = self._store.roster() if needed > max(self._slots, 1) else Roster(0, 0)
        if needed > max(self._slots, others.most, 1):
            most = str(others) if others.workers > 1 else f"this worker has {self._slots}"
            reason = f"workers: {needed} need as many slots, but {most} (OUZEL_WORKER_SLOTS, --slots of ouzel-worker)"
        elif needed > max(running, 1):
            reason = f"workers: {needed}, but only {running} of your jobs may run at a time, and each worker counts"
        else:
            return None
        return FailedPrecondition(reason, field="workers")

    def usage(self, owner: str, days: int) -> pb.Usage:
        """What an owner has used, and of which quotas."""
        limits, seen = self._limits.of(owner), self._storage
        out = pb.Usage(
            artifact_bytes=self._store.artifact_bytes_of(owner),
            dataset_bytes=seen.datasets(owner),
            reserved_bytes=self._store.reserved(owner),
        )
        for each in self._store.usage(owner, days):
            out.days.add(**{name: value for name, value in asdict(each).items() if name != "owner"})
        today = self._store.today_of(owner)
        stored = out.artifact_bytes + out.dataset_bytes + out.reserved_bytes
        used = {
            "seconds_per_day": today.seconds,
            "gpu_seconds_per_day": today.gpu_seconds,
            "stored_bytes": stored,
            "running": today.running,
            "queued": today.queued,
        }
        for name, value in used.items():
            if (limit := getattr(limits, name)) is not None:
                out.quotas.add(name=name, used=value, limit=limit)
        return out
