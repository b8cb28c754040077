"""Where services are found: arguments, then the environment, then this machine."""

from __future__ import annotations

import json
import os

import grpc
import numpy as np
import pytest

from ouzel_client import Client, ConfigurationError, Retry, Unauthenticated, Unavailable
from ouzel_client._cli.explanations import only_model
from ouzel_client._transport.config import Address, channel_options, find, find_worker
from ouzel_client._transport.status import from_status
from ouzel_client.testing import FakeServer
from ouzel_protos import local

HERE = "127.0.0.1:7070"


@pytest.fixture
def serving():
    """What `ouzel up` leaves behind."""
    state = local.state_dir()
    state.mkdir(parents=True)
    keys = state / "key_file.json"
    keys.write_text(json.dumps({"inference": {"key": "local-token"}, "management": {"key": "other"}}))
    record = dict.fromkeys(local.Serving.__annotations__, "") | {
        "grpc": HERE, "key_file": str(keys), "models": ["m"], "pid": 1, "create_time": 1.0,
    }  # fmt: skip
    (state / local.SERVING).write_text(json.dumps(record))
    return state


def test_nothing_is_found():
    with pytest.raises(ConfigurationError, match="ouzel up"):
        Client()


@pytest.mark.parametrize(("part", "look"), [("torchserve", find), ("worker", find_worker)])
def test_what_is_being_started_again_is_not_said_to_be_missing(part, look):
    state = local.state_dir()
    state.mkdir(parents=True)
    record = {"pid": os.getpid(), "parts": {part: {}}}
    (state / local.SUPERVISOR).write_text(json.dumps(record))
    with pytest.raises(ConfigurationError, match=f"^{part} is being started again by process {os.getpid()}"):
        look()
    for other in ({"pid": 2**22 + 1}, {"pid": "x"}, {"pid": 2**70}, {"parts": {}}, {"parts": 3}):
        (state / local.SUPERVISOR).write_text(json.dumps(record | other))
        with pytest.raises(ConfigurationError, match="found: start"):
            look()


@pytest.mark.parametrize(
    ("target", "supervised", "remedy"),
    [(HERE, True, "ouzel status"), (HERE, False, "ouzel up"), ("example.org:7090", True, "ouzel up")],
)
def test_what_to_do_about_services_that_do_not_answer(target, supervised, remedy):
    state = local.state_dir()
    state.mkdir(parents=True)
    if supervised:
        (state / local.SUPERVISOR).write_text(json.dumps({"pid": os.getpid(), "parts": {"worker": {}}}))
    error = from_status(grpc.StatusCode.UNAVAILABLE, "failed to connect", target)
    assert remedy in error.message


def test_services_that_serve_nothing_are_not_called_missing(serving):
    record = json.loads((serving / local.SERVING).read_text()) | {"models": [], "management": "http://127.0.0.1:9"}
    (serving / local.SERVING).write_text(json.dumps(record))
    with pytest.raises(ConfigurationError, match="serve no model"):
        only_model()


def test_local_services_bring_their_token(serving):
    assert find() == Address(HERE, "local-token")
    assert find(HERE) == Address(HERE, "local-token")


def test_the_local_token_goes_nowhere_else(serving):
    assert find("elsewhere:7070") == Address("elsewhere:7070", "")


def test_the_environment_goes_before_local_services(serving, monkeypatch):
    monkeypatch.setenv("OUZEL_GRPC", "elsewhere:1")
    assert find() == Address("elsewhere:1", "")
    monkeypatch.setenv("OUZEL_TOKEN", "mine")
    assert find() == Address("elsewhere:1", "mine")


def test_arguments_go_before_the_environment(monkeypatch):
    monkeypatch.setenv("OUZEL_GRPC", "elsewhere:1")
    monkeypatch.setenv("OUZEL_TOKEN", "mine")
    assert find("there:2", "yours") == Address("there:2", "yours")


def test_a_lost_key_file_is_named(serving):
    (serving / "key_file.json").unlink()
    with pytest.raises(ConfigurationError, match="key_file"):
        find()


@pytest.mark.parametrize("target", ["localhost", "http://localhost:7070", ":7070", "host:port"])
def test_an_address_is_host_and_port(target):
    with pytest.raises(ConfigurationError, match="host:port"):
        find(target)


@pytest.mark.parametrize(
    ("target", "proxied"), [(HERE, 0), ("localhost:1", 0), ("[::1]:1", 0), ("example.org:1", 1), ("127.evil.org:1", 1)]
)
def test_loopback_is_never_reached_through_a_proxy(target, proxied):
    assert dict(channel_options(target, 1))["grpc.enable_http_proxy"] == proxied


@pytest.mark.parametrize("name", ["max_request_bytes", "max_response_bytes"])
def test_limits_are_positive(name):
    with pytest.raises(ConfigurationError, match=name):
        Client(HERE, **{name: 0})


def serve(state, server, token):
    """As `ouzel up` would record it."""
    (state / "key_file.json").write_text(json.dumps({"inference": {"key": token}, "management": {"key": "other"}}))
    record = json.loads((state / local.SERVING).read_text()) | {"grpc": server.target}
    (state / local.SERVING).write_text(json.dumps(record))


def test_services_that_were_started_again_have_new_tokens_and_ports(serving):
    pixels = np.zeros((8, 8, 3), np.uint8)
    with FakeServer(token="second") as second:
        with FakeServer(token="first") as first:
            serve(serving, first, "first")
            client = Client(retry=Retry(attempts=2, initial=0.01))
            assert client.models["m"].explain(pixels).labels[0] == "cat"
        serve(serving, second, "second")
        with client:
            assert client.models["m"].explain(pixels).labels[0] == "cat"
            assert client.models["m"].explain(pixels).labels[0] == "cat"
        assert len(second.requests) == 2


def test_a_token_that_has_changed_is_read_again(serving):
    pixels = np.zeros((8, 8, 3), np.uint8)
    with FakeServer(token="new") as server:
        serve(serving, server, "old")
        with Client(retry=Retry(attempts=1)) as client:
            with pytest.raises(Unauthenticated, match="OUZEL_TOKEN"):
                client.models["m"].explain(pixels)
            record = (serving / local.SERVING).read_bytes()
            (serving / local.SERVING).unlink()
            with pytest.raises(Unavailable, match="being started again"):
                client.models["m"].explain(pixels)
            (serving / local.SERVING).write_bytes(record)
            serve(serving, server, "new")
            assert client.models["m"].explain(pixels).labels[0] == "cat"


def test_a_gateway_is_asked_where_it_computes_itself(serving):
    def recorded(**changes: bool) -> None:
        record = {"pid": os.getpid(), "create_time": 1.0, "grpc": "127.0.0.1:8001", "rest": "", "health": ""}
        (serving / local.GATEWAY).write_text(
            json.dumps({**record, "tls": False, "pool": False, "listens": [], **changes})
        )

    recorded()
    assert find() == Address(HERE, "local-token")  # TorchServe is one hop nearer
    recorded(pool=True)
    assert find() == Address("127.0.0.1:8001", "")
    assert find(HERE) == Address(HERE, "local-token")
    recorded(pool=True, tls=True)
    with pytest.raises(ConfigurationError, match="speaks TLS: give target, token and credentials"):
        find()
