"""AuditService: audits run in a process beside this one, which has no torch. Here is checked what needs none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ouzel.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Recorder
from ouzel.worker.api import audit_entries
from ouzel.worker.api.audit_requests import LARGEST_ANSWER, checked_start, task_of
from ouzel.worker.api.auth import stream, unary
from ouzel.worker.api.service import Context, Service
from ouzel.worker.api.tokens import Tokens
from ouzel.worker.auditing.frames import Frame
from ouzel.worker.auditing.pool import AuditPool
from ouzel.worker.auditing.process import Call
from ouzel.worker.auditing.sources import describe
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.datasets.store import Datasets
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1.audit_pb2_grpc import AuditServiceServicer
from ouzel_protos.v1.ledger_pb2 import LedgerEntry

_THREADS = 4
_PUBLISHED = 30.0  # s for publishing an entry
_SECONDS, _MOST_SECONDS = 60.0, 600.0  # of an audit: without a deadline of the call, and with one


class AuditService(Service, AuditServiceServicer):
    """The service of audits.

    Args:
        pool: Runs them.
        catalogue: The models that they can be about.
        datasets: The data sets that they can draw from.
        tokens: Tell the owners of calls.
        endpoints: Other services that callers may name.
        patience: Seconds in which a caller must answer a question.
        recorder: Records what was audited, and what is refused.
        denials: See `Service`.
    """

    def __init__(
        self,
        pool: AuditPool,
        catalogue: Catalogue,
        datasets: Datasets,
        tokens: Tokens,
        *,
        endpoints: Mapping[str, Any],
        patience: float,
        recorder: Recorder,
        denials: Denials | None = None,
    ) -> None:
        super().__init__(tokens, threads=_THREADS, name="audits", recorder=recorder, denials=denials)
        self._pool, self._catalogue, self._datasets = pool, catalogue, datasets
        self._endpoints, self._patience = endpoints, patience

    @unary
    async def AuditPrediction(self, request: pb.AuditPredictionRequest, context: Context) -> pb.PredictionAudit:
        owner = self.owner(context)
        seen = self._catalogue.seen_by(owner, self.may_name(context))
        task = await self.run(
            task_of,
            request,
            seen,
            self._datasets,
            owner,
            endpoints=tuple(self._endpoints),
        )
        body = await self.run(request.SerializeToString)
        answer = await self._answer(await self._pool.audit(task, body, _seconds(context)))
        return await self._recorded(request, answer, owner, _seconds(context))

    @stream
    async def AuditReported(
        self, requests: AsyncIterator[pb.AuditReportedRequest], context: Context
    ) -> AsyncIterator[pb.AuditReportedResponse]:
        owner = self.owner(context)
        seen = self._catalogue.seen_by(owner, self.may_name(context))
        parts = aiter(requests)
        start = checked_start(await self._next(parts, "start"))
        task = await self.run(
            task_of,
            start.request,
            seen,
            self._datasets,
            owner,
            endpoints=None,
        )
        body = await self.run(start.SerializeToString)
        async with self._pool.converse("reported", task, body, _seconds(context)) as call:
            async for response in self._conversation(call, parts):
                if response.HasField("audit"):
                    await self._recorded(start.request, response.audit, owner, _seconds(context))
                yield response

    @unary
    async def ListAuditSources(
        self, request: pb.ListAuditSourcesRequest, context: Context
    ) -> pb.ListAuditSourcesResponse:
        return pb.ListAuditSourcesResponse(
            sources=[describe(name, config) for name, config in sorted(self._endpoints.items())]
        )

    async def _conversation(
        self, call: Call, parts: AsyncIterator[pb.AuditReportedRequest]
    ) -> AsyncIterator[pb.AuditReportedResponse]:
        while True:
            frame = await call.receive()
            if frame.kind == "done":
                yield pb.AuditReportedResponse(audit=await self._answer(frame.body))
                return
            if frame.kind == "plan":
                yield pb.AuditReportedResponse(plan=pb.ReportedPlan.FromString(frame.body))
                continue
            yield pb.AuditReportedResponse(question=pb.ReportedQuestion.FromString(frame.body))
            part = await self._next(parts, "answer")
            await call.send(Frame("answer", call.number, body=part.answer.SerializeToString()))

    async def _answer(self, body: bytes) -> pb.PredictionAudit:
        if len(body) > LARGEST_ANSWER:
            raise ResourceExhausted(
                f"include_pictures: the answer has {len(body)} bytes, more than {LARGEST_ANSWER}; ask without "
                "pictures, or for fewer",
                field="include_pictures",
            )
        return await self.run(pb.PredictionAudit.FromString, body)

    async def _recorded(
        self, request: pb.AuditPredictionRequest, answer: pb.PredictionAudit, owner: str, seconds: float
    ) -> pb.PredictionAudit:
        """The answer, once it is an entry of the log: with the entry and its proof."""
        event = audit_entries.event(request, answer, owner)
        entry = await self.run_slow(self.recorder.proven, event, min(_PUBLISHED, seconds))
        if entry is not None:
            answer.ledger.CopyFrom(
                LedgerEntry(index=entry.index, entry=entry.entry, salt=entry.salt, proof=entry.proof)
            )
        return answer

    async def _next(self, parts: AsyncIterator[pb.AuditReportedRequest], kind: str) -> pb.AuditReportedRequest:
        """The caller's next message, if it is of this kind and comes in time."""
        try:
            part = await asyncio.wait_for(anext(parts), self._patience)
        except StopAsyncIteration:
            raise InvalidArgument(f"{kind}: missing; the stream ended before it came", field=kind) from None
        except TimeoutError:
            raise DeadlineExceeded(f"{kind}: nothing came for {self._patience:g} s") from None
        if part.WhichOneof("part") != kind:
            raise InvalidArgument(f"{kind}: {part.WhichOneof('part') or 'nothing'} came in its place", field=kind)
        return part


def _seconds(context: Context) -> float:
    """How long the caller waits."""
    left = context.time_remaining()
    return _SECONDS if left is None else max(0.001, min(left, _MOST_SECONDS))
