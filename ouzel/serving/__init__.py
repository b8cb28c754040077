"""Starting, watching and stopping TorchServe on this machine.

    with serving.start(ServingOptions(store="model_store", ports=Ports.free(), state=folder)) as services:
        services.grpc, services.rest, services.inference_token

Design: TorchServe is a Java process that starts Python workers. It is started directly, not through its `torchserve`
command, so that its process is ours and so that several can run side by side. One run has one private folder (the
configuration, the tokens, unpacked archives, sockets) inside the state folder, whose `serving.json` tells clients where
to find it. A file lock admits one run per state folder; whatever a killed run leaves behind is found by a mark in the
environment of its processes, and cleared by the next start or stop.
"""

from __future__ import annotations

from ouzel.serving.errors import AlreadyRunning, StartFailed
from ouzel.serving.options import Ports, ServingOptions
from ouzel.serving.running import RunningServing
from ouzel.serving.server import start, start_detached, stop
from ouzel.serving.signals import Stopped, stop_on_signals
from ouzel.serving.supervision.status import Status, status

__all__ = [
    "AlreadyRunning",
    "Ports",
    "RunningServing",
    "ServingOptions",
    "StartFailed",
    "Status",
    "Stopped",
    "start",
    "start_detached",
    "status",
    "stop",
    "stop_on_signals",
]
