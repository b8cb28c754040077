"""The port of the metrics: who may read, what is answered, and that it holds nobody up."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.telemetry.metrics import MetricsOptions, registry, served


def get(url: str, token: str = "", method: str = "GET") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_prometheus_can_read_it() -> None:
    made = registry()
    Counter("ouzel_test_things", "Things.", ["kind"], registry=made).labels("a").inc(3)
    with served(made, MetricsOptions(0)) as url:
        status, text = get(url)
        assert get(url.replace("/metrics", "/"))[0] == 404
        assert get(url, method="POST")[0] == 405
    assert status == 200
    samples = {each.name: each.value for family in text_string_to_metric_families(text) for each in family.samples}
    assert samples["ouzel_test_things_total"] == 3
    assert samples["process_resident_memory_bytes"] > 0
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_two_processes_parts_share_no_registry() -> None:
    assert registry() is not registry()


def test_strangers_need_a_token(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="metrics_host"):
        MetricsOptions(0, "0.0.0.0")
    with pytest.raises(InvalidArgument, match="metrics_port"):
        MetricsOptions(70_000)
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    with served(registry(), MetricsOptions(0, "0.0.0.0", secret)) as served_at:
        url = served_at.replace("0.0.0.0", "127.0.0.1")
        assert get(url)[0] == get(url, "guessed")[0] == 401
        assert get(url, "s3cret")[0] == 200
        secret.write_text("another")
        assert (get(url, "s3cret")[0], get(url, "another")[0]) == (401, 200)
        secret.write_text("")
        assert get(url, "")[0] == 401
        secret.unlink()
        assert get(url, "another")[0] == 401


def test_the_silent_do_not_hold_up_others() -> None:
    with served(registry(), MetricsOptions(0)) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        assert get(url)[0] == 200
        more = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]  # more than may be at a time
        for each in more[-5:]:
            each.settimeout(10)
            assert each.recv(1) == b""
        for each in held + more:
            each.close()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=f"metrics_port: {port}"), served(registry(), MetricsOptions(port)):
            pass
