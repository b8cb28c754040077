"""What runs, and how it is: every part is asked, all at the same time, with a short time-out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ouzel.serving import processes, saved_options, state_folder
from ouzel.serving.supervision import health, journal, served
from ouzel.serving.supervision.journal import Restarts, Supervision
from ouzel.serving.supervision.served import Model
from ouzel_protos.local import Gateway, Serving, read_agent, read_serving, token
from ouzel_protos.local import Worker as WorkerRecord

AGENT = "serving agent"
ANSWER = 2.0  # s in which each part has to answer
_ASKERS = 16  # questions at a time
_COMPUTES = 0.05  # of a core: more than an idle process takes


class State(StrEnum):
    """How a part is."""

    UP = "up"  # it answered
    BUSY = "busy"  # it did not answer, but computes
    STARTING = "starting"  # its processes load
    RESTARTING = "restarting"  # the supervisor is about to start it, or starts it
    FAILING = "failing"  # it answers with errors
    SILENT = "not answering"  # it lives, but neither answers nor computes
    IDLE = "not loaded"  # a model without processes, as its operator wants it
    DOWN = "down"  # there is no process


@dataclass(frozen=True)
class Part:
    """One line of the status.

    Attributes:
        name: "supervisor", "torchserve", "worker", "gateway", "serving agent", or "NAME VERSION" of a model.
        kind: "service" or "model".
        state: How it is.
        pids: Of its processes.
        address: Where it listens.
        since: When its process began, in seconds since the epoch.
        note: Why it is not well, and what the supervisor did.
    """

    name: str
    kind: str  # "service" or "model"
    state: State
    pids: tuple[int, ...] = ()
    address: str = ""
    since: float | None = None
    note: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing needs to be done."""
        return self.state in (State.UP, State.BUSY, State.IDLE)


@dataclass(frozen=True)
class Status:
    """Services that run.

    Attributes:
        serving: As recorded; None if TorchServe was never ready.
        responding: False if TorchServe is gone or does not answer.
        models: The versions that are served.
        worker: "host:port" where jobs are accepted, or "".
        gateway: The gateway, as recorded; None without one.
        parts: One for each line of the status.
    """

    serving: Serving | None
    responding: bool
    models: tuple[Model, ...]
    worker: str = ""  # "host:port" where jobs are accepted, or ""
    gateway: Gateway | None = None
    parts: tuple[Part, ...] = ()

    @property
    def troubles(self) -> tuple[Part, ...]:
        """The parts that are not well."""
        return tuple(part for part in self.parts if not part.well)


def status(state: Path, timeout: float = ANSWER) -> Status | None:
    """The services of a state folder.

    Args:
        state: The state folder.
        timeout: Time in which each part has to answer, in seconds. The call takes about three times as long at most.

    Returns:
        None if no services run.
    """
    serving, worker, watch = state_folder.running(state), state_folder.running_worker(state), journal.read(state)
    gateway = state_folder.running_gateway(state)
    agent = _agent(state)
    if serving is None and worker is None and gateway is None and agent is None and not (watch and watch.alive):
        return None
    with ThreadPoolExecutor(_ASKERS, thread_name_prefix="status") as askers:
        asked_worker = askers.submit(_worker, state, worker, watch, timeout)
        asked_gateway = askers.submit(_gateway, state, gateway, watch, timeout)
        asked = askers.submit(_torchserve, state, serving, watch, timeout)
        models: tuple[Model, ...] = ()
        parts: list[Part | None] = []
        if serving is not None:
            record, key = serving, _key(serving)

            def described(name: str) -> list[Model]:
                return served.models(record, key, name, timeout)

            def part(model: Model) -> Part:
                return _model(record, model, beside[model.name], timeout)

            try:
                names = served.names(serving, key, timeout)
                models = tuple(model for each in askers.map(described, names) for model in each)
                beside = Counter(model.name for model in models)
                parts = list(askers.map(part, models))
            except (OSError, ValueError):
                pass  # TorchServe's own line tells
        torchserve = asked.result()
        lines = (_supervisor(watch), torchserve, asked_worker.result(), asked_gateway.result(), agent, *parts)
    return Status(
        serving or read_serving(state),
        torchserve is not None and torchserve.well,
        models,
        worker["grpc"] if worker else "",
        gateway,
        tuple(each for each in lines if each is not None),
    )


def _key(serving: Serving) -> str:
    try:
        return token(serving["key_file"], "management")
    except (OSError, ValueError):
        return ""


def _supervisor(watch: Supervision | None) -> Part | None:
    """None for services that were started without one."""
    if watch is None:
        return None
    name = processes.SUPERVISOR
    if not watch.alive:
        note = "nobody restarts what dies; `ouzel up` starts another one"
        return Part(name, "service", State.DOWN, note=note)
    if processes.stopped(watch.pid):
        return Part(name, "service", State.SILENT, (watch.pid,), "", watch.create_time, "its process is halted")
    return Part(name, "service", State.UP, (watch.pid,), "", watch.create_time)


def _torchserve(state: Path, serving: Serving | None, watch: Supervision | None, timeout: float) -> Part | None:
    name = processes.TORCHSERVE
    if serving is None:
        expected = saved_options.read(state) is not None or read_serving(state) is not None
        return _gone(name, watch) if expected else None
    answered = _answered([serving["pid"]], lambda: health.torchserve(serving, timeout))
    address = f"{serving['grpc']} (gRPC), {serving['rest']}"
    return _lives(Part(name, "service", State.UP, (serving["pid"],), address, serving["create_time"]), answered, watch)


def _worker(state: Path, worker: WorkerRecord | None, watch: Supervision | None, timeout: float) -> Part | None:
    name = processes.WORKER
    if worker is None:
        options = saved_options.read(state)
        return _gone(name, watch) if options is not None and options.worker else None
    answered = _answered([worker["pid"]], lambda: health.worker(worker["grpc"], timeout))
    address = f"{worker['grpc']} (jobs)"
    return _lives(Part(name, "service", State.UP, (worker["pid"],), address, worker["create_time"]), answered, watch)


def _gateway(state: Path, gateway: Gateway | None, watch: Supervision | None, timeout: float) -> Part | None:
    name = processes.GATEWAY
    if gateway is None:
        options = saved_options.read(state)
        return _gone(name, watch) if options is not None and options.gateway else None
    answered = _answered([gateway["pid"]], lambda: health.gateway(gateway["health"], timeout))
    rest, grpc = gateway.get("listens", [gateway["rest"], gateway["grpc"]])
    address = f"{grpc} (gRPC), {rest}"
    return _lives(Part(name, "service", State.UP, (gateway["pid"],), address, gateway["create_time"]), answered, watch)


def _agent(state: Path) -> Part | None:
    """The serving agent; None if none runs: others start it and watch over it. What it cannot serve is in its note."""
    agent = read_agent(state)
    if agent is None or processes.find(agent["pid"], agent["create_time"]) is None:
        return None
    told = f"{agent['served']} versions are served"
    note = _joined(f"{agent['node']} follows {agent['source']}", told, agent["note"])
    return Part(AGENT, "service", State.UP, (agent["pid"],), "", agent["create_time"], note)


def _model(serving: Serving, model: Model, versions: int, timeout: float) -> Part:
    name, pids = f"{model.name} {model.version}", tuple(worker.pid for worker in model.workers)
    ready = [worker for worker in model.workers if worker.state == "READY"]
    since = min(filter(None, map(processes.started, pids)), default=None)
    note = "the default" if model.is_default and versions > 1 else ""
    if not ready and not model.wanted:
        return Part(name, "model", State.IDLE, pids, note=note)
    if not ready:
        return Part(name, "model", State.STARTING if pids else State.DOWN, pids, "", since, note)
    if halted := [pid for pid in pids if processes.stopped(pid)]:
        halt = f"process {', '.join(map(str, halted))} is halted"
        return Part(name, "model", State.SILENT, pids, "", since, _joined(note, halt))
    state, why = _answered(pids, lambda: health.model(serving, model.name, model.version, timeout))
    if state is State.SILENT and why.startswith(health.ANSWERED):
        state = State.FAILING
    if state is State.UP and len(ready) < model.wanted:
        state, why = State.STARTING, f"{len(ready)} of {model.wanted} processes are ready"
    return Part(name, "model", state, pids, "", since, _joined(note, why))


def _answered(pids: Sequence[int], ask: Callable[[], str]) -> tuple[State, str]:
    """What a part says; one that says nothing is busy if its processes compute meanwhile."""
    begun, used = time.monotonic(), sum(map(processes.cpu_seconds, pids))
    why = ask()
    if not why:
        return State.UP, ""
    used = sum(map(processes.cpu_seconds, pids)) - used
    elapsed = max(time.monotonic() - begun, 0.1)
    return (State.BUSY if used > _COMPUTES * elapsed else State.SILENT), why


def _lives(part: Part, answered: tuple[State, str], watch: Supervision | None) -> Part:
    state, why = answered
    if any(map(processes.stopped, part.pids)):
        state, why = State.SILENT, "its process is halted"
    did = watch.parts.get(part.name) if watch else None
    return replace(part, state=state, note=_joined(why, _told(did)))


def _gone(name: str, watch: Supervision | None) -> Part:
    did = watch.parts.get(name) if watch else None
    if did is None or watch is None or not watch.alive:
        return Part(name, "service", State.DOWN, note=_joined("`ouzel up` starts it", _told(did)))
    loading = f"it is loading {did.progress}".rstrip()
    when = loading if did.starting else f"next try at {_clock(did.next)}" if did.next else ""
    return Part(name, "service", State.RESTARTING, note=_joined(did.trouble or did.reason, when, _told(did)))


def _told(did: Restarts | None) -> str:
    if did is None or not did.restarts:
        return ""
    times = "once" if did.restarts == 1 else f"{did.restarts} times, last"
    return f"restarted {times} at {_clock(did.last)} ({did.reason})"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))
