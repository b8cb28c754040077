"""The process that audits, beside the worker: `python -m ouzel.worker.auditing.resident`.

It reads frames on its standard input and answers on its standard output (see `frames`). It ends when the input does,
whatever it is doing then: the worker is gone, or wants another process.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO

from google.protobuf.message import Message

from ouzel.errors import DeadlineExceeded, InvalidArgument, OuzelError
from ouzel.explain.memory import give_back
from ouzel.telemetry import logs, tracing
from ouzel.worker.auditing import frames
from ouzel.worker.auditing.asked import Given
from ouzel.worker.auditing.auditor import Auditor, Caller
from ouzel.worker.auditing.frames import Frame
from ouzel.worker.auditing.task import ResidentOptions, Task
from ouzel_protos.v1 import audit_pb2 as pb

_log = logging.getLogger(__name__)


@dataclass
class _Running:
    given_up: threading.Event = field(default_factory=threading.Event)
    answers: queue.Queue[pb.ReportedAnswer | None] = field(default_factory=queue.Queue)


class Resident:
    """Hands frames to threads that audit.

    Args:
        options: Of the process.
        out: Where frames are written.
    """

    def __init__(self, options: ResidentOptions, out: IO[bytes]) -> None:
        self._options, self._out = options, out
        self._writing = threading.Lock()
        self._auditor = Auditor(options)
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="audit")
        self._running: dict[int, _Running] = {}

    def serve(self, pipe: IO[bytes]) -> None:
        """Answers frames until the pipe ends."""
        self._send(Frame("ready"))
        while (frame := frames.read(pipe)) is not None:
            if frame.kind in ("audit", "reported"):
                running = self._running[frame.number] = _Running()
                self._threads.submit(self._audit, frame, running)
            elif (known := self._running.get(frame.number)) is None:
                continue  # it has ended meanwhile
            elif frame.kind == "answer":
                known.answers.put(pb.ReportedAnswer.FromString(frame.body))
            else:
                known.given_up.set()
                known.answers.put(None)

    def _audit(self, frame: Frame, running: _Running) -> None:
        try:
            self._send(Frame("done", frame.number, body=self._answer(frame, running).SerializeToString()))
        except OuzelError as error:
            self._fail(frame.number, error)
        except Exception as error:  # noqa: BLE001 - the caller hears an id, and the log says more
            error_id = uuid.uuid4().hex[:12]
            _log.error("error %s", error_id, exc_info=error)
            self._fail(frame.number, OuzelError(f"internal error {error_id}; the worker's log says more"))
        finally:
            del self._running[frame.number]
            if not self._running:
                give_back()  # each thread of the C library would keep what its largest audit needed

    def _answer(self, frame: Frame, running: _Running) -> pb.PredictionAudit:
        if running.given_up.is_set():
            raise Given("the audit was given up")
        task, caller = Task.from_dict(frame.about), self._caller(frame.number, running)
        if not task.trace:
            return self._audited(frame, task, caller)
        attributes = {"ouzel.kind": frame.kind}
        with tracing.span("audit", kind="server", parent=task.trace, attributes=attributes):
            return self._audited(frame, task, caller)

    def _audited(self, frame: Frame, task: Task, caller: Caller) -> pb.PredictionAudit:
        if frame.kind == "audit":
            return self._auditor.audit(task, pb.AuditPredictionRequest.FromString(frame.body), caller)
        return self._auditor.audit_reported(task, pb.ReportedStart.FromString(frame.body), caller)

    def _caller(self, number: int, running: _Running) -> Caller:
        def tell(plan: Message) -> None:
            self._send(Frame("plan", number, body=plan.SerializeToString()))

        def ask(question: pb.ReportedQuestion) -> pb.ReportedAnswer:
            self._send(Frame("question", number, body=question.SerializeToString()))
            try:
                answer = running.answers.get(timeout=self._options.patience)
            except queue.Empty:
                raise DeadlineExceeded(
                    f"no answer to question {question.number} in {self._options.patience:g} s"
                ) from None
            if answer is None:
                raise Given("the audit was given up")
            if answer.number != question.number:
                raise InvalidArgument(
                    f"answer.number: {answer.number} is not that of the question, {question.number}",
                    field="answer.number",
                )
            return answer

        return Caller(running.given_up, tell, ask)

    def _fail(self, number: int, error: OuzelError) -> None:
        self._send(Frame("failed", number, {"code": error.code, "message": str(error), "field": error.field}))

    def _send(self, frame: Frame) -> None:
        with self._writing:
            self._out.write(frame.encode())
            self._out.flush()


def main() -> None:
    """Serves until the standard input ends."""
    logs.configure()
    tracing.start("ouzel-audits")
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no frame
    first = frames.read(sys.stdin.buffer)
    if first is None:
        return
    options = pickle.loads(first.body)  # from the worker that started this process
    assert isinstance(options, ResidentOptions)
    try:
        Resident(options, out).serve(sys.stdin.buffer)
    finally:
        tracing.stop()
        os._exit(0)  # threads may compute for long still, and nobody waits for them


if __name__ == "__main__":
    main()
