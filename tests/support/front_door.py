"""The services and the gateway before them as operators run them: processes, TLS, tenants with keys, a worker."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import psutil
import trustme

from ouzel.gateway.access.api_keys import ApiKeys, Scope
from ouzel.gateway.access.caller import ROLES
from ouzel.gateway.access.key_schema import open_keys
from ouzel.serving import Ports, processes
from ouzel_client import Client

SELF = "acme"  # the tenant that asks
OTHER = "other"
_TENANTS = f"""\
[tenants.{SELF}]
models = ["efficientnet*", "toy"]
requests_per_second = 10000
burst = 10000
concurrency = 1000
body_bytes = 67108864

[tenants.{OTHER}]
"""
_OUZEL = "from ouzel_client._cli.main import main; main()"


@dataclass(frozen=True)
class Key:
    """An API key: its text, and the name by which the database knows it."""

    text: str
    id: str


class Keys:
    """The database of keys."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, tenant: str, name: str = "robot") -> Key:
        with closing(open_keys(self.path)) as database:
            text, key = ApiKeys(database).create(Scope(tenant, name, frozenset(ROLES)), timedelta(days=1))
        return Key(text, key.id)

    def rotate(self, key: Key, overlap: timedelta) -> Key:
        with closing(open_keys(self.path)) as database:
            text, new, _ = ApiKeys(database).rotate(key.id, overlap, timedelta(days=1))
        return Key(text, new.id)


class Certificates:
    """One authority, and the server's certificate in two files, which can be replaced."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.root = self._authority.cert_pem.bytes()
        self.issue()

    def issue(self) -> None:
        """Writes a new pair, each file in one step."""
        own = self._authority.issue_cert("localhost", "127.0.0.1")
        chain = b"".join(each.bytes() for each in own.cert_chain_pems)
        for path, content in ((self.key, own.private_key_pem.bytes()), (self.certificate, chain)):
            beside = path.with_suffix(".new")
            beside.touch(0o600)
            beside.write_bytes(content)
            beside.replace(path)


@dataclass(frozen=True)
class FrontDoor:
    """A gateway with services behind it.

    Attributes:
        state: Folder of the services.
        rest: "host:port".
        grpc: "host:port".
        keys: The database of keys.
        certificates: Of TLS.
        key: Of the tenant `SELF`, with all roles.
        foreign: Of the tenant `OTHER`.
        gateway: The gateway's process.
    """

    state: Path
    rest: str
    grpc: str
    keys: Keys
    certificates: Certificates
    key: Key
    foreign: Key
    gateway: psutil.Process

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.certificates.root.decode("ascii"))

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.certificates.root)

    def channel(self, **options: Any) -> grpc.Channel:
        """A connection of its own. options: gRPC's, less the prefix "grpc."."""
        usual = {
            "max_receive_message_length": 256 * 2**20,
            "max_send_message_length": -1,
            "use_local_subchannel_pool": 1,
        }
        chosen = {**usual, "enable_retries": 0, **options}
        return grpc.secure_channel(
            self.grpc, self.credentials, [(f"grpc.{name}", value) for name, value in chosen.items()]
        )

    def client(self, key: Key | None = None, **options: Any) -> Client:
        text = (key or self.key).text
        return Client(
            self.grpc, token=text, credentials=self.credentials, worker=self.grpc, worker_token=text, **options
        )

    def connection(self, seconds: float = 60.0) -> http.client.HTTPSConnection:
        host, _, port = self.rest.rpartition(":")
        return http.client.HTTPSConnection(host, int(port), timeout=seconds, context=self.tls)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}, seconds: float = 150.0
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers with lower-case names, body) of a request with the tenant's key, unless headers have one."""
        connection = self.connection(seconds)
        named = {"Authorization": f"Bearer {self.key.text}", **headers}
        named = {name: value for name, value in named.items() if value}  # "" sends none
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.request(method, path, body, named)  # who is refused is answered before all is sent
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def processes(self) -> list[psutil.Process]:
        """All processes that run now, the gateway first."""
        with contextlib.suppress(psutil.Error):
            return [self.gateway, *self.gateway.children(recursive=True), *processes.belonging_to(self.state)]
        return processes.belonging_to(self.state)


def metadata(key: Key) -> tuple[tuple[str, str], ...]:
    """What says over gRPC who calls."""
    return (("authorization", f"Bearer {key.text}"),)


@contextlib.contextmanager
def front_door(
    store: Path, folder: Path, *, services: tuple[str, ...] = (), gateway: tuple[str, ...] = ()
) -> Iterator[FrontDoor]:
    """Starts `ouzel up` and `ouzel-gateway` as processes of their own, and stops them.

    Args:
        store: With the models.
        folder: Empty; for state, keys, certificates and logs.
        services: More arguments of `ouzel up`.
        gateway: More arguments of `ouzel-gateway`.
    """
    state, tenants, tokens = folder / "state", folder / "tenants.toml", folder / "tokens"
    tenants.write_text(_TENANTS)
    tokens.touch(0o600)
    tokens.write_text(f"{SELF} token-of-{SELF}-0123456789\n{OTHER} token-of-{OTHER}-0123456789\n")
    certificates, keys = Certificates(folder), Keys(folder / "keys.db")
    key, foreign = keys.create(SELF), keys.create(OTHER)
    environment = os.environ | {"OUZEL_STATE": str(state), "OUZEL_WORKER_TOKENS": str(tokens)}
    ports = Ports.free()
    flags = [word for name, port in vars(ports).items() for word in (f"--{name.replace('_', '-')}-port", str(port))]
    ouzel = [sys.executable, "-c", _OUZEL]
    try:
        with (folder / "up.log").open("wb") as log:
            words = [*ouzel, "up", "--detach", "--store", str(store), *flags, *services]
            subprocess.run(words, env=environment, stdout=log, stderr=log, check=True, timeout=600)
        words = [
            sys.executable, "-m", "ouzel.cli.gateway", "--state", str(state), "--rest-port", "0", "--grpc-port", "0",
            "--tenants", str(tenants), "--keys", str(keys.path), "--worker-tokens", str(tokens),
            "--tls-certificate", str(certificates.certificate), "--tls-key", str(certificates.key), *gateway,
        ]  # fmt: skip
        with _gateway(words, environment, folder / "gateway.log") as (process, rest, grpc_address):
            yield FrontDoor(state, rest, grpc_address, keys, certificates, key, foreign, process)
    finally:
        subprocess.run([*ouzel, "down"], env=environment, capture_output=True, timeout=120, check=False)


@contextlib.contextmanager
def _gateway(words: list[str], environment: Mapping[str, str], log: Path) -> Iterator[tuple[psutil.Process, str, str]]:
    with log.open("wb") as errors:
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r"REST is served at https://(\S+), gRPC at (\S+)\. ", process.stdout.readline())
        assert match, log.read_text()
        rest, grpc_address = (f"localhost:{each.rpartition(':')[2]}" for each in match.groups())
        yield psutil.Process(process.pid), rest, grpc_address
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.communicate()
