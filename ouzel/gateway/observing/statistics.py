"""What was answered, and where its time went: the statistics that clients of the Open Inference Protocol ask for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ouzel_protos.v1 import explain_pb2 as pb

_MOST = 4096  # versions of models, of all tenants; those that nobody asked for longest are forgotten
_MS = 1e6  # ns


@dataclass
class Duration:
    """So many times, so many nanoseconds together."""

    count: int = 0
    ns: int = 0

    def add(self, ms: float) -> None:
        """Counts one."""
        self.count += 1
        self.ns += max(0, round(ms * _MS))


@dataclass
class Counts:
    """Of one version of a model, by one tenant, since this process began.

    Attributes:
        last: When a request was answered last, in seconds since the epoch; 0 if none was.
        rows: That were answered.
        batches: In which they were computed. A batch that was shared with others counts by its share.
        success: Requests that were answered, with all their time behind the door.
        fail: Those that were not.
        queue: Time that they waited, and travelled, between the door and the model's process.
        input: Reading options and images, and making the network's input of them.
        infer: In the network.
        output: Making the messages of the answers.
    """

    last: float = 0.0
    rows: int = 0
    batches: float = 0.0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    input: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)


class Statistics:
    """Counts, by tenant, model and version. Used by one event loop."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str, str], Counts] = OrderedDict()

    def of(self, tenant: str, model: str, version: str) -> Counts:
        """The counts of a tenant; none of them is kept of a version that nobody has asked."""
        return self._counts.get((tenant, model, version)) or Counts()

    def answered(
        self, tenant: str, model: str, version: str, answers: Sequence[pb.Explanation], seconds: float
    ) -> None:
        """Counts a request.

        Args:
            tenant: Of the caller.
            model: Its name.
            version: That was asked for; "" is the default one. The answers know better.
            answers: One for each row. If one is an error, the request has failed.
            seconds: That it took.
        """
        version = next((each.model.version for each in answers if each.model.version), version)
        counts = self._at(tenant, model, version)
        if any(each.HasField("error") for each in answers):
            counts.fail.add(seconds * 1e3)
            return
        counts.last = time.time()
        counts.rows += len(answers)
        counts.batches += sum(1 / max(each.timing.batch_size, 1) for each in answers)
        counts.success.add(seconds * 1e3)
        slowest = max((each.timing for each in answers), key=lambda each: each.total_ms)  # rows go side by side
        counts.queue.add(seconds * 1e3 - slowest.total_ms)
        counts.input.add(slowest.decode_ms + slowest.preprocess_ms)
        counts.infer.add(slowest.compute_ms + slowest.copy_ms)
        counts.output.add(slowest.encode_ms)

    def failed(self, tenant: str, model: str, version: str, seconds: float) -> None:
        """Counts a request that was not answered. `version` as it is served."""
        self._at(tenant, model, version).fail.add(seconds * 1e3)

    def _at(self, *key: str) -> Counts:
        tenant, model, version = key
        counts = self._counts.setdefault((tenant, model, version), Counts())
        self._counts.move_to_end((tenant, model, version))
        if len(self._counts) > _MOST:
            self._counts.popitem(last=False)
        return counts
