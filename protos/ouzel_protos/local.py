"""Where services on this machine are found: the convention that server and client share.

`ouzel up` writes `serving.json` into the state folder once the services are ready and removes it when they stop; the
worker does the same with `worker.json`, and the gateway of `ouzel up` with `gateway.json`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from platformdirs import user_state_path

SERVING = "serving.json"
WORKER = "worker.json"
GATEWAY = "gateway.json"
AGENT = "agent.json"
OPTIONS = "options.json"  # how the services were started; there as long as they are meant to run
SUPERVISOR = "supervisor.json"  # the process that restarts what died; more of its form is known to `ouzel.serving`


class Serving(TypedDict):
    """What `serving.json` holds. Addresses of gRPC are "host:port", the others URLs without a final slash."""

    pid: int
    create_time: float  # seconds since the epoch, as psutil gives it: tells the process from a later one of the same id
    grpc: str
    rest: str
    management: str
    metrics: str
    key_file: str
    model_store: str
    models: list[str]


class _Worker(TypedDict):
    pid: int
    create_time: float
    grpc: str
    token_file: str


class Worker(_Worker, total=False):
    """What `worker.json` holds.

    Attributes:
        pid: Of the worker.
        create_time: When it began, in seconds since the epoch, as psutil gives it.
        grpc: "host:port".
        token_file: Holds the token of the local user, and nothing else.
        ledger: Folder of the log that it writes to; "" if it keeps none.
    """

    ledger: str


class Gateway(TypedDict):
    """What `gateway.json` holds.

    Attributes:
        pid: Of the gateway.
        create_time: When it began, in seconds since the epoch, as psutil gives it.
        grpc: "host:port" where clients on this machine find it.
        rest: Its URL, without a final slash.
        health: Socket of the file system at which it tells its health by gRPC, to the user that runs it alone.
        tls: Whether both ports speak TLS.
        pool: Whether models are served from a pool, for which clients are to ask it and not TorchServe.
        listens: URL of REST and "host:port" of gRPC as it listens, which may be all addresses.
    """

    pid: int
    create_time: float
    grpc: str
    rest: str
    health: str
    tls: bool
    pool: bool
    listens: list[str]


class Agent(TypedDict):
    """What `agent.json` holds.

    Attributes:
        pid: Of the serving agent.
        create_time: When it began, in seconds since the epoch, as psutil gives it.
        node: By which others know this machine.
        source: The model store that it follows.
        note: What keeps models from being as the store says; "" if nothing does.
        served: How many versions are served.
    """

    pid: int
    create_time: float
    node: str
    source: str
    note: str
    served: int


class _Supervisor(TypedDict):
    pid: int
    parts: dict[str, Any]


def state_dir() -> Path:
    """The state folder, absolute: `$OUZEL_STATE`, else the platform's place for the state of programs.

    That is `$XDG_STATE_HOME/ouzel` if this is an absolute path, else `~/.local/state/ouzel`, on macOS
    `~/Library/Application Support/ouzel`. It need not exist; the process that creates it gives it mode 0700.
    """
    if chosen := os.environ.get("OUZEL_STATE"):
        return Path(chosen).expanduser().absolute()
    return user_state_path("ouzel", appauthor=False)


def read_serving(state: Path | None = None) -> Serving | None:
    """The TorchServe that a state folder records. It may have been killed since.

    Args:
        state: The state folder; None is `state_dir()`.

    Returns:
        The record; None if there is no record that can be read.
    """
    return cast(Serving | None, _read(state, SERVING, Serving))


def read_worker(state: Path | None = None) -> Worker | None:
    """The worker that a state folder records, as `read_serving`."""
    return cast(Worker | None, _read(state, WORKER, Worker))


def read_gateway(state: Path | None = None) -> Gateway | None:
    """The gateway that a state folder records, as `read_serving`."""
    return cast(Gateway | None, _read(state, GATEWAY, Gateway))


def read_agent(state: Path | None = None) -> Agent | None:
    """The serving agent that a state folder records, as `read_serving`."""
    return cast(Agent | None, _read(state, AGENT, Agent))


def supervisor(part: Literal["torchserve", "worker", "gateway"], state: Path | None = None) -> int | None:
    """Id of the process that starts `part` again when it dies; None if there is no such process."""
    record = _read(state, SUPERVISOR, _Supervisor)
    if record is None:
        return None
    try:
        if part not in record["parts"]:
            return None
        os.kill(record["pid"], 0)
    except PermissionError:
        pass  # it belongs to another user, but is there
    except (OSError, TypeError, OverflowError):
        return None
    return cast(int, record["pid"])


def _read(state: Path | None, name: str, form: Any) -> dict[str, Any] | None:
    try:
        record = json.loads(((state or state_dir()) / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= form.__required_keys__ else None


def token(key_file: str | Path, kind: Literal["inference", "management"]) -> str:
    """The token of a kind in TorchServe's key file. Raises OSError or ValueError, which name the file."""
    try:
        return str(json.loads(Path(key_file).read_text(encoding="utf-8"))[kind]["key"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{key_file} holds no {kind} token") from error
