"""A real server of grpc.aio behind the interceptor, with all four kinds of methods."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
import trustme
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from ouzel import grpc_errors
from ouzel.errors import OuzelError, Unavailable
from ouzel.gateway.access.call import Denied, current
from ouzel.gateway.access.caller import Access, unknown_model
from ouzel.gateway.access.grpc_interceptor import AccessInterceptor
from ouzel.gateway.access.tls import Tls, TlsFiles
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Recorder
from support.ledgers import Place

if TYPE_CHECKING:
    from conftest import Site

Code = grpc.StatusCode
MODELS = ("birds", "cats")


async def infer(request: bytes, context: Any) -> bytes:
    """What a service of the gateway does: asks for a model, which may be slow."""
    model = request.decode().removeprefix("slow ")
    try:
        with current().admitted("explain", model):
            if model not in MODELS:
                raise unknown_model(model)
            if request.startswith(b"slow "):
                await asyncio.sleep(0.3)
    except OuzelError as error:
        await grpc_errors.abort(context, error)
    return current().caller.name.encode()


async def drain(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    return b"".join([each async for each in requests]) + current().caller.name.encode()


async def repeat(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield request + current().caller.name.encode()


async def echo(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for each in requests:
        yield each + current().caller.name.encode()


METHODS = {
    "Infer": grpc.unary_unary_rpc_method_handler(infer),
    "Drain": grpc.stream_unary_rpc_method_handler(drain),
    "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
}


class Served:
    def __init__(self, port: int, denied: Counter[tuple[str, str]]) -> None:
        self.port, self.denied = port, denied

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
        if credentials is None:
            return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        return grpc.aio.secure_channel(f"localhost:{self.port}", credentials)


@asynccontextmanager
async def serving(
    access: Access,
    tls: Tls | None = None,
    roles: Mapping[str, str] | None = None,
    most: int | None = None,
    count: Denied | None = None,
) -> AsyncIterator[Served]:
    denied = Counter[tuple[str, str]]()
    interceptor = AccessInterceptor(
        access,
        certificates=tls is not None,
        roles=roles or {},
        denied=count or (lambda method, code: denied.update([(method, code)])),
    )
    server = grpc.aio.server(interceptors=[interceptor], maximum_concurrent_rpcs=most)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("s.S", METHODS),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": METHODS["Infer"]}),
        )
    )
    address = "127.0.0.1:0"
    port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, tls.grpc())
    await server.start()
    try:
        yield Served(port, denied)
    finally:
        await server.stop(None)


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def details(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    found = [each for each in Status.FromString(raw).details if each.Is(kind.DESCRIPTOR)]
    out = kind()
    found[0].Unpack(out)
    return out


async def each_kind(channel: grpc.aio.Channel, metadata: Any) -> list[list[bytes]]:
    """The answers of the four kinds of methods."""

    async def stream(call: Any) -> list[bytes]:
        return [each async for each in call]

    options: dict[str, Any] = {"metadata": metadata, "timeout": 20}
    return [
        [await channel.unary_unary("/s.S/Infer")(b"birds", **options)],
        [await channel.stream_unary("/s.S/Drain")(iter([b"1", b"2"]), **options)],
        await stream(channel.unary_stream("/s.S/Repeat")(b"1", **options)),
        await stream(channel.stream_stream("/s.S/Echo")(iter([b"1", b"2"]), **options)),
    ]


ANSWERS = [[b"robot"], [b"12robot"], [b"1robot"] * 3, [b"1robot", b"2robot"]]


async def test_a_known_caller_reaches_all_kinds_of_methods(site: Site) -> None:
    key = site.key()
    with site.open() as access:
        async with serving(access) as served, served.channel() as channel:
            assert await each_kind(channel, bearer(key)) == ANSWERS
            assert not served.denied


async def test_strangers_are_denied_with_reasons_that_machines_read(site: Site) -> None:
    key = site.key()
    with site.open() as access:
        async with serving(access) as served, served.channel() as channel:
            infer = channel.unary_unary("/s.S/Infer")
            for metadata in ((), bearer("ouzel_no"), bearer(key) + bearer(key), (("authorization", "Basic YTpi"),)):
                error = await failure(infer(b"birds", metadata=metadata, timeout=20))
                assert error.code() == Code.UNAUTHENTICATED
                assert details(error, error_details_pb2.ErrorInfo).reason == "UNAUTHENTICATED"
                assert key not in str(error)
            assert served.denied == {("/s.S/Infer", "UNAUTHENTICATED"): 4}


@pytest.mark.parametrize("certificates", [False, True])
async def test_silent_streams_of_strangers_are_denied_at_once_and_leave_room(
    site: Site, certificates: bool, ca: trustme.CA, tmp_path: Any
) -> None:
    """More of them than the server takes at a time; none sends a message, or ends."""
    key = site.key()
    tls, credentials = _mutual(ca, tmp_path) if certificates else (None, None)
    most = 8
    with site.open() as access:
        async with serving(access, tls, most=most) as served, served.channel(credentials) as channel:

            async def silent() -> AsyncIterator[bytes]:
                await asyncio.sleep(60)
                yield b""

            kinds = {"Infer": channel.stream_unary, "Drain": channel.stream_unary, "Echo": channel.stream_stream}
            for name, kind in list(kinds.items()) * most:
                call = kind(f"/s.S/{name}")(silent(), timeout=30)
                assert await call.code() == Code.UNAUTHENTICATED
            assert await channel.unary_unary("/s.S/Infer")(b"birds", metadata=bearer(key), timeout=20) == b"robot"


async def test_a_role_is_needed_and_named_and_a_foreign_model_is_like_none(site: Site) -> None:
    site.write('models = ["bird*"]')
    explain, jobs = site.key("acme", "explain"), site.key("acme", "jobs")
    with site.open() as access:
        async with serving(access, roles={"/s.S/Echo": "jobs"}) as served, served.channel() as channel:
            echo, infer = channel.stream_stream("/s.S/Echo"), channel.unary_unary("/s.S/Infer")
            call = echo(metadata=bearer(explain), timeout=20)  # before a message is sent
            assert await call.code() == Code.PERMISSION_DENIED
            assert "'jobs'" in await call.details()
            error = await failure(infer(b"birds", metadata=bearer(jobs), timeout=20))
            assert (error.code(), "'explain'" in str(error.details())) == (Code.PERMISSION_DENIED, True)
            foreign = await failure(infer(b"cats", metadata=bearer(explain), timeout=20))
            unknown = await failure(infer(b"dogs", metadata=bearer(explain), timeout=20))  # not served at all
            missing = await failure(infer(b"birdz", metadata=bearer(explain), timeout=20))  # the patterns allow it
            said = [
                (each.code(), str(each.details()).replace(name, "NAME"), len(each.trailing_metadata()))
                for each, name in ((foreign, "cats"), (unknown, "dogs"), (missing, "birdz"))
            ]
            assert said[0] == said[1] == said[2]
            assert said[0][0] == Code.NOT_FOUND
            assert served.denied["/s.S/Infer", "PERMISSION_DENIED"] == 1
            assert served.denied["/s.S/Echo", "PERMISSION_DENIED"] == 1


async def test_forty_calls_into_a_concurrency_of_five(site: Site) -> None:
    site.write("concurrency = 5\nburst = 1000\nrequests_per_second = 1000")
    key, other = site.key(), site.key("other")
    with site.open() as access:
        async with serving(access) as served, served.channel() as channel:
            infer = channel.unary_unary("/s.S/Infer")
            calls = [infer(b"slow birds", metadata=bearer(key), timeout=20) for _ in range(40)]
            foreign = infer(b"slow birds", metadata=bearer(other), timeout=20)
            codes = Counter([await each.code() for each in calls])
            assert codes == {Code.OK: 5, Code.RESOURCE_EXHAUSTED: 35}
            assert await foreign == b"robot"
            assert await infer(b"birds", metadata=bearer(key), timeout=20) == b"robot"
            assert served.denied["/s.S/Infer", "RESOURCE_EXHAUSTED"] == 35


async def test_a_rate_says_when_to_try_again(site: Site) -> None:
    site.write("burst = 2\nrequests_per_second = 0.01")
    key = site.key()
    with site.open() as access:
        async with serving(access) as served, served.channel() as channel:
            infer = channel.unary_unary("/s.S/Infer")
            for _ in range(2):
                await infer(b"birds", metadata=bearer(key), timeout=20)
            error = await failure(infer(b"birds", metadata=bearer(key), timeout=20))
            assert error.code() == Code.RESOURCE_EXHAUSTED
            delay = details(error, error_details_pb2.RetryInfo).retry_delay
            assert 90 < delay.seconds <= 100


async def test_calls_that_are_given_up_leave_their_room(site: Site) -> None:
    site.write("concurrency = 1\nburst = 1000\nrequests_per_second = 1000")
    key = site.key()
    with site.open() as access:
        async with serving(access) as served, served.channel() as channel:
            infer = channel.unary_unary("/s.S/Infer")
            error = await failure(infer(b"slow birds", metadata=bearer(key), timeout=0.1))
            assert error.code() == Code.DEADLINE_EXCEEDED

            async def again() -> bool:
                call = infer(b"birds", metadata=bearer(key), timeout=20)
                return await call.code() == Code.OK

            await until(again)


async def until(holds: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_what_cannot_be_told_now_is_unavailable(site: Site) -> None:
    class Silent:
        def identify(self, _authorization: Any, _certificate: Any) -> Any:
            raise Unavailable("keys cannot be checked at the moment")

    async with serving(Silent()) as served, served.channel() as channel:  # type: ignore[arg-type]
        error = await failure(channel.unary_unary("/s.S/Infer")(b"birds", timeout=20))
        assert error.code() == Code.UNAVAILABLE
        assert details(error, error_details_pb2.RetryInfo).retry_delay.seconds == 1


async def test_unknown_methods_are_known_to_be_unknown_by_known_callers_only(site: Site) -> None:
    key = site.key()
    with site.open() as access:
        async with serving(access) as served, served.channel() as channel:
            call = channel.unary_unary("/s.S/Nothing")
            assert (await failure(call(b"", metadata=bearer(key), timeout=20))).code() == Code.UNIMPLEMENTED
            assert (await failure(call(b"", timeout=20))).code() == Code.UNAUTHENTICATED


def _mutual(ca: trustme.CA, folder: Any, san: str = "robot.example") -> tuple[Tls, grpc.ChannelCredentials]:
    server, clients = ca.issue_cert("localhost", "127.0.0.1"), trustme.CA()
    files = TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "clients.crt")
    files.certificate.write_bytes(server.cert_chain_pems[0].bytes())
    files.key.write_bytes(server.private_key_pem.bytes())
    assert files.client_ca is not None
    files.client_ca.write_bytes(clients.cert_pem.bytes())
    own = clients.issue_cert(san)
    credentials = grpc.ssl_channel_credentials(
        ca.cert_pem.bytes(), own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
    )
    return Tls(files), credentials


async def test_a_certificate_names_the_caller_of_all_kinds_of_methods(
    site: Site, ca: trustme.CA, tmp_path: Any
) -> None:
    site.write(more='[[certificates]]\ntenant = "acme"\nname = "robot"\nroles = ["explain"]\nsan = "DNS:robot.example"')
    key, foreign = site.key("acme", "explain"), site.key("other", "explain")
    tls, credentials = _mutual(ca, tmp_path)
    with site.open() as access:
        roles = {"/s.S/Echo": "explain", "/s.S/Drain": "explain"}
        async with serving(access, tls, roles=roles) as served, served.channel(credentials) as channel:
            assert await each_kind(channel, ()) == ANSWERS
            assert await each_kind(channel, bearer(key)) == ANSWERS
            error = await failure(channel.unary_unary("/s.S/Infer")(b"birds", metadata=bearer(foreign), timeout=20))
            assert error.code() == Code.UNAUTHENTICATED
            assert "another tenant" in str(error.details())
            error = await failure(channel.stream_unary("/s.S/Infer")(iter(()), timeout=20))
            assert error.code() == Code.INVALID_ARGUMENT
            site.file.write_text("[tenants.acme]\n")

            async def gone() -> bool:
                call = channel.unary_unary("/s.S/Infer")(b"birds", timeout=20)
                return await call.code() == Code.UNAUTHENTICATED

            await until(gone)


async def test_refusals_become_one_entry_of_the_log(site: Site, tmp_path: Any) -> None:
    ledger = Place(str(tmp_path / "ledger.db"), tmp_path / "ledger").open()
    denials = Denials(Recorder(None, ledger), {"/s.S/Infer"})
    try:
        with site.open() as access:
            async with serving(access, count=denials.count) as served, served.channel() as channel:
                for method in ("/s.S/Infer", "/s.S/Infer", "/invented/by.Strangers"):
                    await failure(channel.unary_unary(method)(b"birds", timeout=20))
        denials.flush()
        ledger.publish()
        (entry,) = ledger.entries(0, ledger.size(), kind="refusal", limit=10)
        assert json.loads(entry.body)["facts"] == {"calls": {"UNAUTHENTICATED": {"/s.S/Infer": 2, "others": 1}}}
    finally:
        ledger.close()
