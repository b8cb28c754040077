"""Java is warmed up before callers come, by requests that go all the way and compute nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ouzel import serving
from ouzel.serving import Ports, RunningServing, ServingOptions, warm_up
from ouzel.serving.warm_up import MOST, ROUND, WarmUp
from ouzel.torchserve import rest
from support.services import write_archive


def test_a_start_sends_whole_rounds_to_one_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(warm_up.ROUNDS)
    for name in ("a", "b"):
        write_archive(tmp_path / "store" / f"{name}.mar")
    options = ServingOptions(store=tmp_path / "store", state=tmp_path / "state", ports=Ports.free(), threads=1)
    with caplog.at_level(logging.INFO, logger=warm_up.__name__), serving.start(options) as running:
        status, body = rest.call("GET", f"{running.metrics}/metrics", "")
    assert status == 200
    lines = [line for line in body.decode().splitlines() if "ts_inference_requests_total{" in line]
    sent = {line.split('"')[1]: float(line.split()[-1]) for line in lines}
    assert sent["b"] == 1  # whether it answers
    rounds, more = divmod(sent["a"] - 1, ROUND)
    assert more == 0
    assert 1 <= rounds <= MOST
    (said,) = (record.getMessage() for record in caplog.records if record.name == warm_up.__name__)
    assert said.startswith(f"Java, ms per request in rounds of {ROUND}: ")
    assert said.count(",") == rounds  # one before the figures, and between them


class Gone:
    """A TorchServe that has ended."""

    pid, grpc, inference_token = 0, "127.0.0.1:1", ""


def test_nothing_is_sent_where_no_round_is_wanted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(warm_up.ROUNDS, "0")
    with caplog.at_level(logging.INFO, logger=warm_up.__name__), WarmUp(_gone()) as warming:
        warming.begin("a", "1")
    assert f"in rounds of {ROUND}: ;" in caplog.text


def _gone() -> RunningServing:
    serving: RunningServing = Gone()  # type: ignore[assignment]
    return serving


def test_a_start_does_not_fail_for_it(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(warm_up.ROUNDS)
    with WarmUp(_gone()) as warming:
        warming.begin("a", "1")
        warming.begin("b", "1")
    assert "Java was not warmed up" in caplog.text
    with WarmUp(_gone()):
        pass  # nothing was loaded
