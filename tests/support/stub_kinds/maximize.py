"""Counts to `steps`, `seconds` each; `seed` names what goes wrong on the way, see `Fault`."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from enum import IntEnum

from ouzel.errors import InvalidArgument
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput
from ouzel.worker.kinds.work import Work
from ouzel_protos.v1 import job_pb2 as pb


class Fault(IntEnum):
    """At the middle step."""

    NONE = 0
    ERROR = 1  # a bug
    REFUSED = 2  # the request is at fault after all
    MEMORY = 3  # too much at a time, unless the batch has been halved
    ALWAYS_MEMORY = 4
    KILLED = 5  # at every attempt
    HANG = 6
    DEAF = 7  # never asks whether to stop
    CHILD = 8  # from the first step on, a process of its own, whose id is in the artifacts' folder, file "child"
    FULL = 9  # leaves more than the disk has room for: what one process may write to a file is limited
    SERVING = 10  # nothing: what it leaves says which TorchServe it would publish models in


def validate(spec: pb.MaximizeSpec, catalogue: Catalogue) -> None:
    if spec.model == "refused":
        raise InvalidArgument("model: 'refused' is refused", field="model")


def work(spec: pb.MaximizeSpec, catalogue: Catalogue) -> Work:
    return Work("counting", float(spec.parameters["steps"].integer or 5))


def run(spec: pb.MaximizeSpec, context: JobContext) -> JobOutput:
    steps = spec.parameters["steps"].integer or 5
    seconds = spec.parameters["seconds"].number
    start = json.loads(context.checkpoint)["step"] if context.checkpoint else 0
    if spec.seed == Fault.CHILD:
        child = subprocess.Popen(["sleep", "600"])
        (context.environment.models / "artifacts" / "child").write_text(str(child.pid))
    for step in range(start + 1, steps + 1):
        time.sleep(seconds)
        if step == (steps + 1) // 2:
            _go_wrong(Fault(spec.seed), context)
        context.progress(step, steps, "counting", {"square": step * step})
        if context.stop_wanted() and step < steps and spec.seed != Fault.DEAF:
            context.save(json.dumps({"step": step}).encode())
            raise JobInterrupted
        if context.save_wanted():
            context.save(json.dumps({"step": step}).encode())
    text = f"{spec.model} counted to {steps}"
    if spec.seed == Fault.SERVING:
        text = str(context.serving)
    if spec.seed == Fault.FULL:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        text += " " * 2**21
    return JobOutput([File("count.txt", "text/plain", text.encode())], {"count": steps, "from": start})


def _go_wrong(fault: Fault, context: JobContext) -> None:
    if fault is Fault.ERROR:
        raise RuntimeError("a secret path: /etc/ouzel")
    if fault is Fault.REFUSED:
        raise InvalidArgument("targets: cannot be", field="targets")
    if (fault is Fault.MEMORY and context.batch_scale == 1) or fault is Fault.ALWAYS_MEMORY:
        raise MemoryError
    if fault is Fault.KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault is Fault.HANG:
        time.sleep(3600)
