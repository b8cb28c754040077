"""The options of the services, with defaults that fit one machine."""

from __future__ import annotations

import ipaddress
import math
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Final, Literal

from ouzel import gpus
from ouzel.checks import one_of
from ouzel.decode_places import PLACES, Place
from ouzel.errors import InvalidArgument
from ouzel.precision_names import Precision, check_precision
from ouzel.serving.door_options import LOOPBACK, DoorOptions
from ouzel_protos.local import state_dir

_ROOMY_MB = 24 * 1024  # for a process; the graph of 64 rows of VGG-16 takes 8 GiB
AUTO: Final = "auto"
HOST = LOOPBACK  # what is bound, unless it is asked otherwise: the edge towards a network is the gateway


@dataclass(frozen=True)
class Ports:
    """TCP ports of TorchServe, of the worker that runs jobs, and of the gateway.

    Attributes:
        rest: Inference over REST.
        management: Management over REST.
        metrics: Metrics over REST.
        grpc: Inference over gRPC.
        grpc_management: Management over gRPC.
        worker: Jobs, data sets and models over gRPC.
        gateway_rest: The gateway over REST.
        gateway_grpc: The gateway over gRPC.

    Raises:
        InvalidArgument: A port is out of range, or used twice.
    """

    rest: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc: int = 7070
    grpc_management: int = 7071
    worker: int = 7090
    gateway_rest: int = 8000
    gateway_grpc: int = 8001

    def __post_init__(self) -> None:
        for name, port in vars(self).items():
            if not 1 <= port <= 65535:
                raise InvalidArgument(f"{name} port is {port}; choose one from 1 to 65535", field=f"ports.{name}")
        if len(set(astuple(self))) < len(astuple(self)):
            raise InvalidArgument(f"ports {', '.join(map(str, astuple(self)))} are not all different", field="ports")

    @classmethod
    def free(cls) -> Ports:
        """Ports that nothing listens on now. Another process may still be faster."""
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in fields(cls)]
            for each in sockets:
                each.bind((HOST, 0))
            return cls(*(each.getsockname()[1] for each in sockets))


@dataclass(frozen=True)
class ServingOptions:
    """How to serve the archives of one model store.

    Attributes:
        store: The model store.
        models: The models to serve; empty means all of the store.
        state: The state folder.
        ports: Where to listen.
        workers: Python processes per model; None is one per GPU, or one on a machine without. AUTO has several per GPU
            where that answers more requests in a second and memory permits: measured when a model is loaded for the
            first time, see `ouzel.serving.worker_count`.
        threads: Threads of each worker; None shares the cores of the machine among the workers of a model.
        batch_size: Requests that are computed together at most; None is 8 on CPUs, which gain nothing from more, and on
            GPUs 64, or 32 if a process has less than 24 GiB.
        max_batch_delay_ms: Time that the first request of a batch waits for others, in milliseconds. A lone caller pays
            it in full, while under load a batch fills during the one before it: keep it short. TorchServe takes 0 for
            100.
        queue_size: Requests per model that may wait; one more is answered with 503.
        response_timeout: Time after which a worker that has not answered is restarted, in seconds.
        max_request_bytes: Larger requests are refused.
        max_response_bytes: Size of a response. The handler reads it from `OUZEL_MAX_RESPONSE_BYTES` and keeps it,
            because a larger response costs TorchServe the worker.
        max_passes: Passes through its network, forward and backward counted one each, that a request may take.
        memory_mb: MiB that each worker may take at a time for methods of many passes (integrated gradients, noise,
            masks); None is a quarter of its GPU's free memory, or an eighth of the machine's.
        heap_mb: Ceiling of the Java heap in MiB; None is enough for one model's full queue of the largest requests.
        loaded_versions: Versions of each model that are loaded at the start and kept when another is published: the
            default one and the newest of the others. Each takes processes of its own.
        timeout: Time in which TorchServe, then each model, then the worker must become ready, in seconds.
        worker: Whether to start a worker that runs jobs as well.
        pool: Whether all models of the store are served from a pool, which holds networks and heads in memory as they
            are asked for: one model of TorchServe, with as many processes as a model has.
        pins: Models that have processes of their own beside the pool.
        pool_memory_mb: MiB that networks and heads may take in each process of the pool; None is a quarter of the
            machine's memory, or of its GPU's, for all together.
        gateway: Whether to start a gateway as well.
        door: Who may come in by it.
        hung_after: Time without an answer after which the supervisor starts a part again, in seconds.
        precision: What all models compute in, one of PRECISIONS; None is what their archives say.
        decode: Where images are decoded, "host" or "device", see `ouzel.explain.device_decoder`; None is $OUZEL_DECODE,
            else the host. Models of a pool decode on the host.
        host: Address on which inference listens, an IPv4 address. Another one than loopback is for containers whose
            ports are published on loopback. Management and metrics stay on loopback in any case.

    Raises:
        InvalidArgument: A value is out of its range.
    """

    store: Path = Path("model_store")
    models: tuple[str, ...] = ()  # empty: all of the store
    state: Path = field(default_factory=state_dir)
    ports: Ports = Ports()
    workers: int | Literal["auto"] | None = None
    threads: int | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int = 1
    queue_size: int = 64
    response_timeout: int = 120
    max_request_bytes: int = 6_553_500
    max_response_bytes: int = 6_553_500
    max_passes: int = 2048
    memory_mb: int | None = None
    heap_mb: int | None = None
    loaded_versions: int = 2
    timeout: float = 120.0
    worker: bool = False
    gateway: bool = False
    door: DoorOptions = field(default_factory=DoorOptions)
    hung_after: float = 60.0
    pool: bool = False
    pins: tuple[str, ...] = ()
    pool_memory_mb: int | None = None
    precision: Precision | None = None
    decode: Place | None = None
    host: str = HOST

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", Path(self.store).expanduser().absolute())
        object.__setattr__(self, "state", Path(self.state).expanduser().absolute())
        try:
            ipaddress.IPv4Address(self.host)  # what TorchServe takes
        except ValueError:
            raise InvalidArgument(f"host is {self.host!r:.80}; give an IPv4 address", field="host") from None
        if self.precision is not None:
            check_precision("precision", self.precision)
        if self.decode is not None:
            one_of("decode", self.decode, PLACES)
        if isinstance(self.workers, str) and self.workers != AUTO:
            raise InvalidArgument(f"workers is {self.workers!r:.80}; give a number, or auto", field="workers")
        if self.pool and self.models:
            raise InvalidArgument("models: a pool serves all of the store; name pins instead", field="models")
        if not self.pool and (self.pins or self.pool_memory_mb is not None):
            field = "pins" if self.pins else "pool_memory_mb"
            raise InvalidArgument(f"{field}: is for a pool, which was not asked for", field=field)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value != AUTO and value <= 0:
                raise InvalidArgument(f"{name} is {value}; choose more than 0", field=name)


_POSITIVE = (
    "workers",
    "threads",
    "batch_size",
    "max_batch_delay_ms",
    "queue_size",
    "response_timeout",
    "max_request_bytes",
    "max_response_bytes",
    "max_passes",
    "memory_mb",
    "heap_mb",
    "pool_memory_mb",
    "loaded_versions",
    "timeout",
    "hung_after",
)


@dataclass(frozen=True)
class Resources:
    """What one model gets of the machine.

    Attributes:
        workers: Processes.
        threads: Threads of each worker.
        heap_mb: Ceiling of the Java heap in MiB.
        batch_size: Requests that are computed together at most.
        gpus: Ids of the GPUs that all models share, as CUDA_VISIBLE_DEVICES takes them.
    """

    workers: int
    threads: int  # per worker
    heap_mb: int
    batch_size: int = 8
    gpus: tuple[str, ...] = ()


def resources(options: ServingOptions) -> Resources:
    """The numbers that the options leave to the machine."""
    ids = gpus.visible()
    least = max(len(ids), 1)
    workers = least if options.workers in (None, AUTO) else int(options.workers)
    threads = options.threads or max(core_count() // workers, 1)
    # A waiting request is held about twice: as it came in and as it goes to the worker.
    waiting = 2 * options.queue_size * options.max_request_bytes / 2**20
    heap = options.heap_mb or max(512, math.ceil(256 + waiting))
    return Resources(workers, threads, heap, options.batch_size or _batch_size(ids, workers), ids)


def _batch_size(ids: Sequence[str], workers: int) -> int:
    if not ids:
        return 8
    memory = gpus.memory_mb(ids)
    each = None if memory is None else memory * len(ids) / max(workers, len(ids))
    return 64 if each is not None and each >= _ROOMY_MB else 32


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
