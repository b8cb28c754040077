"""What an operator may choose about jobs on a Ray cluster. Imports nothing of Ray."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from ouzel.checks import one_of, within
from ouzel.databases.urls import is_postgres
from ouzel.errors import InvalidArgument

ANY = "*"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(KiB|MiB|GiB|TiB)")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_MOST = 4096
_EXAMPLE = "finetune:gpus=1,cpus=4,memory=16GiB"


@dataclass(frozen=True)
class Resources:
    """What Ray reserves on a node for one job.

    Attributes:
        cpus: Cores, more than 0: Ray would start a job without on the head's node. Also the number of threads.
        gpus: GPUs; less than 1 is a share. With 0 the job sees none.
        memory: Bytes that Ray counts; it does not limit them.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0

    @property
    def threads(self) -> int:
        """That compute."""
        return max(1, int(self.cpus))


@dataclass(frozen=True)
class RayOptions:
    """The cluster that jobs run on.

    Attributes:
        address: Of its job service, http://HOST:8265 as a rule.
        resources: For each kind of job; those of `ANY` are for all others.
        python: The interpreter on the nodes that has Ouzel, a path or a name that is found there.
        patience: Seconds without a heartbeat after which a job goes back into the queue by itself.

    Raises:
        InvalidArgument: A value cannot be used.
    """

    address: str = "http://127.0.0.1:8265"
    resources: Mapping[str, Resources] = field(default_factory=dict)
    python: str = "python"
    patience: float = 45.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise InvalidArgument(
                f"ray_address: {self.address!r:.80} is not http://HOST:PORT of a Ray cluster's job service",
                field="ray_address",
            )
        if not self.python.strip():
            raise InvalidArgument("ray_python: must name an interpreter", field="ray_python")

    def of(self, kind: str) -> Resources:
        """For jobs of a kind."""
        return self.resources.get(kind) or self.resources.get(ANY) or Resources()


def resources(given: Sequence[str], kinds: Sequence[str]) -> dict[str, Resources]:
    """Reads what a command line says.

    Args:
        given: "KIND:gpus=1,cpus=4,memory=16GiB" each; KIND may be "*".
        kinds: That there are.

    Raises:
        InvalidArgument: A text is of another form, or a kind comes twice.
    """
    found: dict[str, Resources] = {}
    for text in given:
        kind, separator, rest = text.partition(":")
        if not separator:
            raise _malformed(text)
        one_of("ray_resources", kind, (*kinds, ANY))
        if kind in found:
            raise InvalidArgument(f"ray_resources: {kind!r} comes twice", field="ray_resources")
        values: dict[str, str] = {}
        for each in rest.split(","):
            name, separator, value = each.partition("=")
            if not separator or name in values:
                raise _malformed(text)
            one_of("ray_resources", name, ("cpus", "gpus", "memory"))
            values[name] = value
        found[kind] = Resources(
            cpus=_number("cpus", values.get("cpus", "1"), 0.01),
            gpus=_number("gpus", values.get("gpus", "0"), 0.0),
            memory=_bytes(values["memory"]) if "memory" in values else 0,
        )
        if (gpus := found[kind].gpus) > 1 and not gpus.is_integer():
            message = f"ray_resources: gpus={gpus:g} is neither a whole number nor a share of one GPU"
            raise InvalidArgument(message, field="ray_resources")
    return found


def check_shared(store: str, artifacts: object) -> None:
    """Refuses what a job on another node could not reach.

    Args:
        store: URL of the job store, "" for the default.
        artifacts: As the operator named them, None for the default.

    Raises:
        InvalidArgument: It says what to name instead.
    """
    if not is_postgres(store):
        message = (
            "jobs: with --executor ray the store must be postgresql://..., which all nodes reach; SQLite is a file"
        )
        raise InvalidArgument(f"{message} of this machine", field="jobs")
    parts = urlsplit(store)
    if parts.password or "password" in parse_qs(parts.query):
        raise InvalidArgument(
            "jobs: the URL has a password, which Ray keeps with each job and shows to whoever may use the cluster; "
            "leave it out, and give the worker and the nodes PGPASSFILE",
            field="jobs",
        )
    if artifacts is None:
        raise InvalidArgument(
            "artifacts: with --executor ray, name what all nodes share; the default is a folder of this machine",
            field="artifacts",
        )


def _malformed(text: str) -> InvalidArgument:
    return InvalidArgument(f"ray_resources: {text!r:.80} is not of the form {_EXAMPLE}", field="ray_resources")


def _number(name: str, text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidArgument(f"ray_resources: {name}={text!r:.40} is not a number", field="ray_resources") from None
    within("ray_resources", value, least, _MOST, unit=name)
    return value


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        message = f"ray_resources: memory={text!r:.40} is not a size such as 16GiB"
        raise InvalidArgument(message, field="ray_resources")
    return int(float(match[1]) * _UNITS[match[2]])
