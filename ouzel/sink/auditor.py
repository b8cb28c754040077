"""The rolling job: whole pairs are audited one after another, and each is counted once."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ouzel.audit.dataset.rows import ImageRow
from ouzel.databases.database import Connection
from ouzel.databases.sqlite import SqliteDatabase
from ouzel.errors import OuzelError
from ouzel.sink import alerts, bodies, counts, results
from ouzel.sink.asking import AskAgain, Auditing, Refused, WorkerDown
from ouzel.sink.clock import Clock
from ouzel.sink.config import Service, SinkConfig
from ouzel.sink.counts import count
from ouzel.sink.sampling import RATE
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1.dataset_pb2 import Box
from ouzel_protos.v1.explain_pb2 import ClassRef

_log = logging.getLogger(__name__)
_EVERY = 0.2  # s between two looks at an empty queue
_LONGEST_WAIT = 60.0  # s, of a worker that is down
_FIRST_WAIT = 5.0  # s, of a pair that did not end; each next one is twice as long
MOST_TRIES = 6  # of a pair that fails although the worker answers: over two and a half minutes at least
_REMEMBERED = 20  # failures, for the status


@dataclass(frozen=True)
class Held:
    """A pair that is to be audited."""

    pair: bytes
    service: str
    id: str
    wall: float
    why: str
    tries: int
    request: bytes
    response: bytes


@dataclass(frozen=True)
class _Done:
    """What became of a pair: a row, and what it rests on; or a reason."""

    row: ImageRow | None
    failed: str = ""
    source: str = ""
    record_sha256: str = ""
    record: bytes | None = None


class Auditor:
    """Audits in a thread of its own.

    A pair leaves the queue in the transaction that stores its result, counts it and moves the detectors. So it is
    audited at least once, and counted exactly once, whenever the process is killed.

    Args:
        database: Of the sink.
        clock: Of the sink.
        config: The operator's file.
        worker: Who audits.
    """

    def __init__(self, database: SqliteDatabase, clock: Clock, config: SinkConfig, worker: Auditing) -> None:
        self._database, self._clock, self._config, self._worker = database, clock, config, worker
        self._designs = {each.name: each.sha256() for each in config.services}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink-auditor", daemon=True)
        self._failures: deque[str] = deque(maxlen=_REMEMBERED)
        self._down = ""

    @property
    def down(self) -> str:
        """Why the worker takes no audits; "" if it does, or was not asked yet."""
        return self._down

    @property
    def failures(self) -> Sequence[str]:
        """Of this process, the last ones."""
        return tuple(self._failures)

    def start(self) -> None:
        """Begins. What was fixed beforehand is stored before the first answer."""
        self._database.write(self._fix)
        self._thread.start()

    def close(self) -> None:
        """Ends; the pair under way stays in the queue."""
        self._stop.set()
        self._worker.close()
        self._thread.join()

    def _fix(self, c: Connection) -> None:
        for service in self._config.services:
            sha256 = self._designs[service.name]
            alerts.end_of_design(c, service.name, sha256)
            if c.run(
                "INSERT OR IGNORE INTO designs VALUES (?, ?, ?, ?)",
                *(service.name, sha256, json.dumps(service.document()), time.time()),
            ):
                _log.info("service %r: statistics and detectors start anew with design %s", service.name, sha256)

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            try:
                held = self._next()
                if held is None:
                    wait = _EVERY
                    continue
                self._guarded(held)
                wait = 0.0
            except WorkerDown as error:
                if not self._down:
                    _log.warning("audits wait: %s", error)
                self._down, wait = str(error), min(max(1.0, 2 * wait), _LONGEST_WAIT)
            except OuzelError as error:
                _log.warning("audits wait: %s", error)
                wait = min(max(1.0, 2 * wait), _LONGEST_WAIT)

    def _guarded(self, held: Held) -> None:
        try:
            self._one(held)
        except (WorkerDown, OuzelError):
            raise
        except Exception:  # noqa: BLE001 - a fault of ours must not stop the queue
            _log.exception("the audit of a pair failed unexpectedly")
            self._finish(held, None, _Done(None, "internal"), "a fault of the sink, which its log describes")

    def _next(self) -> Held | None:
        sql = (
            "SELECT pair, service, id, wall, why, tries, request, response FROM held WHERE state = ? AND due <= ? "
            "ORDER BY due LIMIT 1"
        )
        row = self._database.read(lambda c: c.one(sql, counts.QUEUED, self._clock.now()))
        return None if row is None else Held(*row)

    def _one(self, held: Held) -> None:
        service = self._config.service(held.service)
        if service is None:
            self._finish(held, None, _Done(None, "service"), "the service is not in the file any more")
            return
        draw = int.from_bytes(held.pair[:8])
        said = None
        try:
            said = bodies.prediction(service, held.response, draw)
            asked = bodies.picture(service, held.request, draw)
            bodies.check_batches(service, held.request, held.response)
        except OuzelError as error:
            self._failed(held, service, said, "response" if said is None else "request", str(error))
            return
        try:
            answer = self._asked(request_of(service, asked, said, held.id))
            if asked.tensor:
                results.check_seen(answer)
        except AskAgain as error:
            if self._stop.is_set():
                return
            if held.tries + 1 >= MOST_TRIES:
                self._failed(held, service, said, "tries", str(error))
            else:
                self._later(held, str(error))
            return
        except (Refused, OuzelError) as error:
            self._failed(held, service, said, "refused", str(error))
            return
        row = results.row_of(answer, held.id, service.name, _iso(held.wall), nominated=service.nominated)
        source = answer.source
        told = {"kind": pb.AuditSource.Kind.Name(source.kind).lower(), "name": source.name, "version": source.version}
        record = answer.record if answer.concern else None
        self._finish(
            held, service, _Done(row, "", json.dumps(told | {"digest": source.digest}), answer.record_sha256, record)
        )

    def _asked(self, request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        try:
            answer = self._worker.audit(request)
        except (AskAgain, Refused):
            self._down = ""
            raise
        self._down = ""
        return answer

    def _later(self, held: Held, problem: str) -> None:
        due = self._clock.now() + _FIRST_WAIT * 2.0**held.tries
        _log.info("the audit of %r is tried again: %s", held.id, problem)
        self._database.write(
            lambda c: c.run("UPDATE held SET tries = tries + 1, due = ? WHERE pair = ?", due, held.pair)
        )

    def _failed(self, held: Held, service: Service, said: bodies.Prediction | None, reason: str, problem: str) -> None:
        row = None
        if said is not None:
            row = results.refused(held.id, said.label, service.name, _iso(held.wall), problem)
        self._finish(held, service, _Done(row, reason), problem)

    def _finish(self, held: Held, service: Service | None, done: _Done, problem: str = "") -> None:
        if problem:
            self._failures.append(f"{_iso(time.time())} {held.service} {held.id!r:.80}: {problem:.400}")
            _log.info("%r of %r was not audited: %s", held.id, held.service, problem)
        for line in self._database.write(lambda c: self._store(c, held, service, done)):
            _log.warning("%s", line)

    def _store(self, c: Connection, held: Held, service: Service | None, done: _Done) -> list[str]:
        """Returns what the log is to tell of alerts."""
        if not c.run("DELETE FROM held WHERE pair = ? AND state = ?", held.pair, counts.QUEUED):
            return []  # it grew too old meanwhile, and was counted as that
        count(c, held.service, counts.QUEUED, -2)
        count(c, held.service, counts.FAILED if done.failed else counts.AUDITED, 2, reason=done.failed)
        if service is None or done.row is None:
            return []
        design = self._designs[service.name]
        c.run(
            "INSERT INTO results (service, design, day, id, why, row, source, record_sha256, record) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(service.name, design, _iso(held.wall)[:10], held.id, held.why, json.dumps(done.row.to_dict())),
            *(done.source, done.record_sha256, done.record),
        )
        # Pairs that were chosen for a reason say nothing of the stream, unless there are no others.
        if service.rate and held.why != RATE:
            return []
        return alerts.look(c, service, design, done.row, notify=self._config.notify is not None)


def request_of(
    service: Service, asked: bodies.Picture, said: bodies.Prediction, identity: str
) -> pb.AuditPredictionRequest:
    """The request for an audit of a pair."""
    audited, options = service.audited, service.design.prediction()
    request = pb.AuditPredictionRequest(
        image=asked.image,
        claimed=ClassRef(label="label:" + said.label),
        surrogate=audited.surrogate,
        mask_file=asked.mask,
        boxes=[Box(left=each[0], top=each[1], right=each[2], bottom=each[3]) for each in asked.boxes],
        scene=said.label in service.design.scenes,
        method=audited.method,
        dataset=audited.dataset,
        request_id=identity[:128],
        options=pb.AuditOptions(
            fills=options.fills,
            scenes=options.scenes,
            steps=options.steps,
            random_orders=options.random_orders,
            effect_margin=options.margins.effect,
            control_margin=options.margins.control,
            seed=options.seed,
        ),
        reported=pb.ReportedPrediction(
            scores=[pb.ReportedPrediction.Score(label=label, probability=score) for label, score in said.best],
            model=service.name,
        ),
    )
    if audited.endpoint:
        request.endpoint = audited.endpoint
    else:
        request.model = audited.model
    return request


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
