"""Batches from the first byte to the replies: read row by row, computed together, recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ouzel.errors import OuzelError
from ouzel.explain import recording, spans
from ouzel.explain.computing import compute_rows
from ouzel.explain.device_decoding import decoded
from ouzel.explain.faults import internal
from ouzel.explain.limits import Limits
from ouzel.explain.reading import Reader, Row
from ouzel.explain.requests import RawRequest, Reply
from ouzel.explain.served import Served
from ouzel.explain.stages import Stages


class Answering:
    """Answers batches. Threads may share it.

    Args:
        limits: Of requests.
        threads: How many images are decoded at a time; None is one per processor.
        record: Makes entries of a log; None keeps none.
    """

    def __init__(self, limits: Limits, threads: int | None = None, record: recording.Record | None = None) -> None:
        self.limits, self._record = limits, record
        self._reader = Reader(limits, record)
        self._decoders = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="ouzel-decode")

    def answer(self, asked: Sequence[tuple[Served, RawRequest]], began: float | None = None) -> list[Reply]:
        """Answer a batch.

        Args:
            asked: One or more requests, each of a model; the models share an explainer.
            began: When callers began to wait, on the clock of `time.monotonic`; None is now.

        Returns:
            One reply per request, in order. What a request holds never raises: each error is that row's answer.
        """
        begun, stages = time.time_ns(), Stages()

        def read(one: tuple[Served, RawRequest]) -> Row:
            return self._reader.read(*one, began)

        rows = list(self._decoders.map(read, asked)) if len(asked) > 1 else [read(asked[0])]
        return self._replies(rows, stages, begun)

    def begin(self, served: Served, request: RawRequest) -> Future[Row]:
        """Has a request read by a thread, ahead of the batch in which `answer_begun` answers it."""
        return self._decoders.submit(self._reader.read, served, request)

    def answer_begun(self, reading: Sequence[Future[Row]]) -> list[Reply]:
        """As `answer`, for what `begin` gave. What was read while others were computed does not count as time."""
        begun, stages = time.time_ns(), Stages()
        return self._replies([each.result() for each in reading], stages, begun)

    def _replies(self, rows: Sequence[Row], stages: Stages, begun: int) -> list[Reply]:
        stages.share(row.stages for row in rows)
        live = decoded([row for row in rows if row.live], stages)
        if live:
            compute_rows(live, stages)
        timing = stages.message(len(live))
        for row in rows:
            row.reply.envelope.timing.CopyFrom(timing)
        wanted = [row for row in rows if row.asked is not None and row.asked.record]
        for _ in self._decoders.map(self._record_row, wanted):  # each waits for a disk: side by side they wait once
            pass
        replies = [row.finished() for row in rows]
        spans.tell([row.request for row in rows], replies, begun)
        return replies

    def close(self) -> None:
        """Ends the threads that decode."""
        self._decoders.shutdown(wait=False)

    def _record_row(self, row: Row) -> None:
        """Makes a row an entry of the log, also if it was refused; one that cannot be recorded becomes an error."""
        if self._record is None or row.asked is None:  # it was refused for that
            return
        try:
            entry = recording.entry(self._record, row.asked, row.error or row.reply.envelope, row.sent)
            if row.error is None:
                row.reply.envelope.ledger.CopyFrom(entry)
        except OuzelError as error:
            row.error = error
        except Exception as error:  # noqa: BLE001 - fail closed
            row.error = internal(error)
