"""Stands in for the process that audits, without torch. What it does with an audit is the text in its request_id."""

from __future__ import annotations

import json
import os
import sys
import time

from ouzel.worker.auditing import frames
from ouzel.worker.auditing.frames import Frame
from ouzel_protos.v1 import audit_pb2 as pb


def say(frame: Frame) -> None:
    sys.stdout.buffer.write(frame.encode())
    sys.stdout.buffer.flush()


def main() -> None:
    assert frames.read(sys.stdin.buffer) is not None  # the setup
    say(Frame("ready"))
    held: list[int] = []
    while (frame := frames.read(sys.stdin.buffer)) is not None:
        if frame.kind == "cancel":
            if frame.number in held:  # others do not stop
                held.remove(frame.number)
                say(Frame("failed", frame.number, {"code": "DEADLINE_EXCEEDED", "message": "given up", "field": ""}))
            continue
        match pb.AuditPredictionRequest.FromString(frame.body).request_id:
            case "die":
                os._exit(1)
            case "hold":
                held.append(frame.number)
            case "ignore":
                pass
            case "noise":
                os.write(1, b"Traceback (most recent call last)")
                time.sleep(60)
            case "refuse":
                say(Frame("failed", frame.number, {"code": "INVALID_ARGUMENT", "message": "no", "field": "mask"}))
            case "trace":
                told = json.dumps(frame.about["trace"])
                say(Frame("failed", frame.number, {"code": "INVALID_ARGUMENT", "message": told, "field": ""}))
            case text:
                answer = pb.PredictionAudit(request_id=f"{text} {os.getpid()}")
                say(Frame("done", frame.number, body=answer.SerializeToString()))


if __name__ == "__main__":
    main()
