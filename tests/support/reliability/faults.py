"""Rows 3 and 14 to 18 of the table of reliability: inputs that take more than one call, and faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import grpc.aio
import psutil
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from ouzel_client import OuzelError
from support import oip_bytes as wire
from support.front_door import metadata
from support.reliability import files
from support.reliability.cases import INFER, Target, explain, explained, raw
from support.reliability.kills import Killer, Report, model_processes

SILENT = 2000  # as many calls as the gateway takes of each protocol
_CONNECTIONS = 4  # grpcio answers some of 2000 new streams of one connection with CANCELLED, whatever the service says
_APART = [("grpc.use_local_subchannel_pool", 1)]
_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True)
class Shown:
    """A line of the table.

    Attributes:
        row: Of the table.
        what: Was sent.
        grpc: What was answered over gRPC.
        rest: What over REST.
        holds: Whether that was expected.
    """

    row: int
    what: str
    grpc: str
    rest: str
    holds: bool


def counted(statuses: list[str]) -> str:
    return ", ".join(f"{times} x {status}" for status, times in sorted(Counter(statuses).items()))


def silent_strangers(target: Target) -> Shown:
    """Streams without a key that send nothing, as many as the server takes calls."""

    async def connection() -> list[str]:
        async with grpc.aio.secure_channel(target.door.grpc, target.door.credentials, _APART) as channel:
            calls = [channel.stream_unary(INFER)(timeout=60) for _ in range(SILENT // _CONNECTIONS)]
            return [code.name for code in await asyncio.gather(*(call.code() for call in calls))]

    async def over_grpc() -> tuple[list[str], float]:
        began = time.monotonic()
        found = await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))
        return [each for one in found for each in one], time.monotonic() - began

    found, seconds = asyncio.run(over_grpc())

    def over_rest(_: int) -> str:
        connection = target.door.connection()
        try:
            connection.putrequest("POST", f"/v2/models/{target.model}/infer")
            connection.putheader("Content-Length", "1000")
            connection.endheaders()
            return str(connection.getresponse().status)
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as threads:
        answered = list(threads.map(over_rest, range(200)))
    works = explained(target, target.model, files.JPEG, "")[0]
    return Shown(
        3, f"{SILENT} silent streams of strangers, 200 requests without their body",
        f"{counted(found)} in {seconds:.1f} s",
        f"{counted(answered)}; then a caller with a key: {works}",
        set(found) == {"UNAUTHENTICATED"} and set(answered) == {"401"} and works == "200",
    )  # fmt: skip


def one_bad_of_four(target: Target) -> Shown:
    images = [
        files.JPEG,
        files.TRUNCATED,
        files.encoded(files.photograph(seed=1)),
        files.encoded(files.photograph(seed=2)),
    ]
    with target.door.client(target.key, timeout=120) as client:

        def ask(image: bytes) -> str:
            try:
                client.models[target.model].explain(image, saliency="gradient")
            except OuzelError as error:
                return type(error).__name__
            return "OK"

        with ThreadPoolExecutor(4) as threads:
            over_grpc = list(threads.map(ask, images))
            options = '{"saliency": ["gradient"]}'
            over_rest = [each[0] for each in threads.map(lambda i: explained(target, target.model, i, options), images)]
    batch = wire.infer(target.model, [wire.tensor("image", "BYTES", (4,))], [wire.elements(*images)])
    status, words, _ = raw(target, INFER, batch)
    names = "row 1" in words
    return Shown(
        14, "one bad image of four at once; of the four rows of one inference",
        f"{counted(over_grpc)}; {status}, which {'names' if names else 'DOES NOT NAME'} the row", counted(over_rest),
        over_grpc == ["OK", "InvalidArgument", "OK", "OK"] and over_rest == ["200", "400", "200", "200"]
        and status == "INVALID_ARGUMENT" and names,
    )  # fmt: skip


def large_answer(target: Target) -> Shown:
    """Refused before the work: the process of the model stays."""
    before = {each.pid for each in model_processes(target.door.state)}
    wanted = {"method": "gradient", "reduction": "none", "size": "original"}
    image = files.encoded(files.photograph(1600, 1200), "JPEG")
    case = explain(15, "", "INVALID_ARGUMENT", "413", image=image, options={"saliency": [wanted]})
    assert case.grpc is not None
    assert case.rest is not None
    told, status = case.grpc(target), case.rest(target)
    stays = before == {each.pid for each in model_processes(target.door.state)}
    return Shown(
        15, "an answer of 23 MB", f"{told.status}; the process {'stays' if stays else 'IS ANOTHER'}", status.status,
        told.status in case.told and status.status in case.status and stays,
    )  # fmt: skip


def killed(target: Target, workers: int, kills: int) -> Shown:
    report, killer = Report(), Killer(target.door, target.channel, workers)
    for number in range(kills):
        report.kills.append(killer.kill(idle=number % 2 == 0))
    told = ", ".join(f"{times} x {status}" for status, times in report.statuses().items())
    holds = set(report.statuses()) <= {"OK", "UNAVAILABLE"} and report.longest < 10 and report.back < 10
    return Shown(
        16, f"{kills} processes of a model killed, idle ones and busy ones, with calls arriving",
        f"{told}; the longest {report.longest:.1f} s, service back within {report.back:.1f} s", "among them", holds,
    )  # fmt: skip


def overloaded(target: Target) -> Shown:
    """40 calls at once into a queue of 5."""
    body = wire.infer(
        target.model, [wire.tensor("image", "BYTES", (1,))], [wire.elements(files.JPEG)],
        parameters=[wire.parameter("method", "smoothgrad"), wire.parameter("samples", 64)],
        outputs=[wire.chunk(1, "saliency")],
    )  # fmt: skip
    options = json.dumps({"saliency": [{"method": "smoothgrad", "samples": 64}]})

    def over_grpc(_: int) -> tuple[str, bool, float]:
        began = time.monotonic()
        try:
            target.channel.unary_unary(INFER)(body, timeout=120, metadata=metadata(target.key))
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            retry = error_details_pb2.RetryInfo()
            found = any(each.Unpack(retry) for each in Status.FromString(trailing.get(_DETAILS, b"")).details)
            return error.code().name, found, time.monotonic() - began
        return "OK", True, time.monotonic() - began

    def over_rest(_: int) -> tuple[str, bool, float]:
        began = time.monotonic()
        headers = {"X-Ouzel-Options": options}
        status, told, _ = target.door.ask("POST", f"/v1/models/{target.model}/explain", files.JPEG, headers)
        return str(status), status == 200 or "retry-after" in told, time.monotonic() - began

    said, holds = [], True
    for ask, allowed in ((over_grpc, {"OK", "RESOURCE_EXHAUSTED"}), (over_rest, {"200", "429"})):
        with ThreadPoolExecutor(40) as threads:
            found = list(threads.map(ask, range(40)))
        statuses = [status for status, _, _ in found]
        slowest = max(seconds for status, _, seconds in found if status in ("OK", "200"))
        holds &= set(statuses) == allowed and all(each for _, each, _ in found)
        said.append(f"{counted(statuses)}, all with the time to wait; the slowest answer {slowest:.1f} s")
    return Shown(17, "40 calls into a queue of 5", said[0], said[1], holds)


def late(target: Target) -> list[Shown]:
    """A deadline of 200 ms on a method of seconds, and callers who leave."""
    parameters = [wire.parameter("method", "smoothgrad"), wire.parameter("samples", 500)]
    tensor, content = wire.tensor("image", "BYTES", (1,)), [wire.elements(files.JPEG)]
    body = wire.infer(target.model, [tensor], content, parameters=parameters, outputs=[wire.chunk(1, "saliency")])
    headers = {"X-Ouzel-Options": json.dumps({"saliency": [{"method": "smoothgrad", "samples": 500}]})}
    path = f"/v1/models/{target.model}/explain"

    def deadline_grpc() -> str:
        return _code(lambda: target.channel.unary_unary(INFER)(body, timeout=0.2, metadata=metadata(target.key)))

    def deadline_rest() -> str:
        return str(target.door.ask("POST", path, files.JPEG, headers | {"X-Ouzel-Timeout": "0.2"})[0])

    def leave_grpc() -> str:
        call = target.channel.unary_unary(INFER).future(body, timeout=60, metadata=metadata(target.key))
        time.sleep(0.2)
        call.cancel()
        return "left"

    def leave_rest() -> str:
        connection = target.door.connection()
        connection.request("POST", path, files.JPEG, headers | {"Authorization": f"Bearer {target.key.text}"})
        time.sleep(0.2)
        connection.close()
        return "left"

    shown = []
    for what, over_grpc, over_rest, allowed in (
        ("a deadline of 200 ms on a method of seconds", deadline_grpc, deadline_rest, {"DEADLINE_EXCEEDED", "504"}),
        ("a caller who leaves after 200 ms", leave_grpc, leave_rest, {"left"}),
    ):
        said, holds = [], True
        for ask in (over_grpc, over_rest):
            status = ask()
            seconds = _quiet(target)
            said.append(f"{status}; computing stops after {seconds:.1f} s")
            holds &= status in allowed and seconds < 1
        shown.append(Shown(18, what, *said, holds))
    return shown


def _code(ask: Callable[[], object]) -> str:
    try:
        ask()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def _quiet(target: Target) -> float:
    """Seconds until the processes of the models compute no more."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        used = _used(target)
        at = time.monotonic() - began
        time.sleep(0.15)
        if _used(target) - used < 0.02:
            return at
    return 60.0


def _used(target: Target) -> float:
    total = 0.0
    for each in model_processes(target.door.state):
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
