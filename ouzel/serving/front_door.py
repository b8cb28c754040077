"""The gateway before TorchServe and the worker: a process of its own, known here by its command only."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from ouzel import secret_files
from ouzel.serving import config, extras, ports, processes, readiness, state_folder
from ouzel.serving.errors import StartFailed
from ouzel.serving.options import ServingOptions
from ouzel_protos.local import GATEWAY, Gateway

logger = logging.getLogger(__name__)
LOG = "gateway.log"
PORTS = ("gateway_rest", "gateway_grpc")
_DRAINS = processes.GRACE - 2  # s for calls under way, before it would be killed
_POLL = 0.05


def installed() -> bool:
    """Whether the extra `gateway` is installed."""
    return not extras.missing("gateway")


@dataclass(frozen=True)
class Starting:
    """A gateway that was started, and is not known to serve yet."""

    options: ServingOptions
    process: subprocess.Popen[bytes]

    def wait(self) -> Gateway:
        """Its record, once it serves. Raises StartFailed: it ended, or was not ready in time."""
        log, seconds = self.options.state / LOG, self.options.timeout
        deadline = time.monotonic() + seconds
        while (record := state_folder.running_gateway(self.options.state)) is None:
            if (status := self.process.poll()) is not None:
                said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                why = " ".join(said).removeprefix("Error: ")
                raise StartFailed(f"the gateway ended with status {status}: {why}; the log is {log}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"the gateway was not ready after {seconds:g} s ({readiness.PATIENCE}); the log is {log}"
                )
            time.sleep(_POLL)
        return record


def begin(options: ServingOptions, *, again: bool = False) -> Starting | None:
    """Starts a gateway, which can come up beside what it stands before.

    Args:
        options: Of the services.
        again: Whether it follows one that died, whose log goes on.

    Returns:
        What waits for it; None if the extra `gateway` is not installed.

    Raises:
        FailedPrecondition: A port is in use.
    """
    state = options.state
    if not installed():
        logger.warning("no gateway is started: run `pip install 'ouzel[gateway]'` for that")
        return None
    ran = processes.stop(state, 0, processes.GATEWAY)
    (state / GATEWAY).unlink(missing_ok=True)
    ports.check(options.ports, PORTS, options.door.host, ports.FREED if ran else 0)
    command = [sys.executable, "-m", "ouzel.cli.gateway", "--state", str(state), "--store", str(options.store)]
    command += ["--engine", "torchserve", "--recorded", "--grace", f"{_DRAINS:g}"]
    command += ["--rest-port", str(options.ports.gateway_rest), "--grpc-port", str(options.ports.gateway_grpc)]
    command += [*options.door.flags(), *(["--pool"] if options.pool else [])]
    with secret_files.open_log(state / LOG, append=again) as output:
        process = subprocess.Popen(
            command,
            env=os.environ | {config.RUN: str(state / "gateway"), processes.PART: processes.GATEWAY},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # as TorchServe: it is stopped in order, not by Ctrl-C
        )
    return Starting(options, process)


def restart(options: ServingOptions) -> None:
    """Starts a gateway in the place of one that died or hangs. Raises OuzelError."""
    started = begin(options, again=True)
    if started is None:
        raise StartFailed("the extra `gateway` is not installed any more")
    started.wait()
