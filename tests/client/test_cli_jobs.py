"""`ouzel maximize`, `search` and `jobs`, against the fake server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from ouzel_client.cli import main
from ouzel_client.testing import FakeServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeServer]:
    monkeypatch.setenv("OUZEL_STATE", str(tmp_path / "state"))
    with FakeServer() as running:
        monkeypatch.setenv("OUZEL_WORKER", running.target)
        yield running


def ouzel(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, words)


def printed(*words: str) -> Any:
    result = ouzel(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_maximize_waits_and_fetches(server: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--logit", "cat", "--channel", "a:1", "--unit", "b:2:3:4", "--direction", "c:1,-0.5", "--set", "steps=7")
    result = ouzel("maximize", "m", *words, "--size", "8", "9", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(out / "images" / f"{number:03}.png") for number in range(4)]
    assert len(list((out / "images").iterdir())) == 4
    (job,) = server.jobs._jobs.values()
    spec = job.message.spec.maximize
    assert [node.WhichOneof("kind") for node in spec.targets] == ["logit", "channel", "unit", "direction"]
    assert (spec.parameters["steps"].integer, spec.height, spec.width) == (7, 8, 9)


def test_search(server: FakeServer) -> None:
    found = printed("search", "m", "--logit", "3", "--dataset", "birds", "--top-k", "2")
    assert (found["kind"], found["state"]) == ("search_activations", "SUCCEEDED")
    (job,) = server.jobs._jobs.values()
    assert job.message.spec.search_activations.targets[0].logit.label == "3"  # may be a label


def test_detached(server: FakeServer) -> None:
    server.jobs.hold = True
    job = ouzel("maximize", "m", "--logit", "0", "--label", "a=b", "--detach").stdout.strip()
    assert job == "job-1"
    assert printed("jobs", "show", job)["labels"] == {"a": "b"}
    for verb, state in (("pause", "PAUSED"), ("resume", "QUEUED"), ("cancel", "CANCELLED"), ("retry", "QUEUED")):
        assert printed("jobs", verb, job)["state"] == state
        assert job in ouzel("jobs", "show", job).stdout


def test_list_watch_download_delete(server: FakeServer, tmp_path: Path) -> None:
    job = printed("maximize", "m", "--logit", "0")["id"]
    assert [each["id"] for each in printed("jobs", "list", "--state", "succeeded")] == [job]
    assert job in ouzel("jobs", "list").stdout
    events = [json.loads(line) for line in ouzel("jobs", "watch", job, "--json", "--after", "1").stdout.splitlines()]
    assert [event["sequence"] for event in events] == list(range(2, 7))
    assert events[1]["progress"] == {"step": 1, "steps": 3, "phase": "pretending"}
    assert printed("jobs", "download", job, "--out", str(tmp_path)) == [str(tmp_path / "images" / "000.png")]
    assert printed("jobs", "delete", job) == {"deleted": job}


@pytest.mark.parametrize("words", [("jobs", "show", "nothing"), ("jobs", "cancel", "nothing")])
def test_errors_are_one_line(server: FakeServer, words: tuple[str, ...]) -> None:
    result = ouzel(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_job_that_failed(server: FakeServer) -> None:
    server.jobs.fail = "model: is no good"
    for words in (("maximize", "m", "--logit", "0"), ("jobs", "watch", "job-1"), ("jobs", "watch", "job-1", "--json")):
        result = ouzel(*words)
        assert result.exit_code == 1
        assert "model: is no good" in result.stderr
    assert "model: is no good" in ouzel("jobs", "show", "job-1").stdout


@pytest.mark.parametrize(
    "words", [("--channel", "a"), ("--unit", "a:1:2"), ("--direction", "a:x"), ("--set", "steps"), ("--label", "x"), ()]
)
def test_wrong_options(server: FakeServer, words: tuple[str, ...]) -> None:
    logit = () if words[:1] in ((), ("--channel",), ("--unit",), ("--direction",)) else ("--logit", "0")
    assert ouzel("maximize", "m", *logit, *words).exit_code == 2
    assert not server.jobs._jobs


def test_without_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OUZEL_STATE", str(tmp_path))
    result = ouzel("jobs", "list")
    assert (result.exit_code, "no worker is found" in result.stderr) == (1, True)
