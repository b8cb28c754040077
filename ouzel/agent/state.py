"""What the state folder says of an agent, for `ouzel status` on the same machine."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from ouzel.agent.options import AgentOptions
from ouzel.durable_files import written
from ouzel.registry.reports import AgentReport
from ouzel_protos.local import AGENT, Agent

_PAUSE = 2.0  # s between two looks at what there is to tell


@contextmanager
def recorded(options: AgentOptions, report: Callable[[], AgentReport]) -> Iterator[None]:
    """Keeps a record of the agent in the state folder while the block runs."""
    path = options.state / AGENT
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    me, over, last = psutil.Process(), threading.Event(), ""

    def write() -> None:
        nonlocal last
        told = report()
        values: Agent = {
            "pid": os.getpid(),
            "create_time": me.create_time(),
            "node": options.node,
            "source": str(options.source),
            "note": "; ".join(filter(None, [told.note, *(f"{key}: {why}" for key, why in told.errors.items())])),
            "served": sum(each.state == "served" for versions in told.versions.values() for each in versions.values()),
        }
        text = json.dumps(values)
        if text != last:
            with written(path, mode=0o600) as temporary:
                temporary.write_text(text, encoding="utf-8")
            last = text

    def keep() -> None:
        while not over.wait(_PAUSE):
            write()

    write()
    thread = threading.Thread(target=keep, name="state", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)
