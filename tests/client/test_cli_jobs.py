"""`ouzel maximize`, `search` and `jobs`, against the fake server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click.testing
import pytest

from ouzel_client import terminal
from ouzel_client._cli.main import main
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
    words = (*words, "--judge", "other@2", "--dataset", "birds", "--path")
    result = ouzel("maximize", "m", *words, "--size", "8", "9", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(out / "images" / f"{number:03}.png") for number in range(4)]
    assert len(list((out / "images").iterdir())) == 4
    (job,) = server.jobs._jobs.values()
    spec = job.message.spec.maximize
    assert [node.WhichOneof("kind") for node in spec.targets] == ["logit", "channel", "unit", "direction"]
    assert (spec.parameters["steps"].integer, spec.height, spec.width) == (7, 8, 9)
    assert (spec.judge, spec.dataset, spec.path) == ("other@2", "birds", True)


def test_search(server: FakeServer) -> None:
    output = printed("search", "m", "--logit", "3", "--dataset", "birds", "--top-k", "2")
    assert (output["kind"], output["state"]) == ("search_activations", "SUCCEEDED")
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
    assert printed("jobs", "delete", job, "--yes") == {"deleted": job}


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


def test_lines_where_there_is_no_terminal(server: FakeServer) -> None:
    """A line for each state, phase and epoch: watched on stdout, beside a verb's own output on stderr."""
    result = ouzel("finetune", "0" * 64, "--base", "m", "--name", "pets")
    watched = ouzel("jobs", "watch", "job-1")
    for text in (result.stderr, watched.stdout):
        lines = [line.partition(" job-1 ")[2] or line for line in text.splitlines()]
        assert lines[:2] == ["QUEUED: pretended", "RUNNING: pretended"]
        assert lines[2] == "pretending: 1 of 3 (33 %)"
        epochs = [line for line in lines if line.startswith("pretending: epoch ")]
        assert [line.split(",")[0] for line in epochs] == [f"pretending: epoch {n}.0" for n in (1, 2, 3)]
        assert lines[-1] == "SUCCEEDED: pretended"
    assert watched.stderr == ""
    assert ouzel("jobs", "watch", "job-1", "--after", "8").stdout.splitlines() == watched.stdout.splitlines()[-1:]
    assert ouzel("finetune", "0" * 64, "--base", "m", "--name", "pets", "--json").stderr == ""


def test_a_bar_on_a_terminal_ends_at_100_percent(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes every stream for a terminal
    server.jobs.steps = 0  # no number of steps was ever told
    assert "100 %" in ouzel("maximize", "m", "--logit", "0").stderr
    server.jobs.steps, server.jobs.fail = 4, "model: is no good"
    shown = ouzel("maximize", "m", "--logit", "0").stderr
    assert "FAILED" in shown
    assert "100 %" in shown.replace("4 %", "")  # all steps were done before it failed


def test_the_table(server: FakeServer) -> None:
    said = ("--logit", "cat")
    ouzel("maximize", "m" * 60, *said)
    server.jobs.steps, server.jobs.fail = 0, "model: is no good"
    ouzel("search", "m", *said)
    ouzel("finetune", "0" * 64, "--base", "m", "--name", "pets")
    server.jobs.hold = True
    ouzel("maximize", "m", *said, "--detach")
    lines = ouzel("jobs", "list").stdout.splitlines()
    assert lines[0].split() == ["job", "kind", "model", "state", "done", "age", "took", "error"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["job-4", "maximize", "m", "QUEUED"],
        ["job-3", "finetune", "pets", "FAILED"],
        ["job-2", "search", "m", "FAILED"],
        ["job-1", "maximize", "m" * 60, "SUCCEEDED"],
    ]
    assert lines[2].endswith("model: is no good")
    assert "100 %" in lines[4]
    assert "?" not in "".join(lines)
    shown = ouzel("jobs", "show", "job-2").stdout
    assert ["error", "model: is no good"] in [line.split(maxsplit=1) for line in shown.splitlines()]
    assert "?" not in shown
    assert [each["id"] for each in printed("jobs", "list", "--kind", "search")] == ["job-2"]
    assert ouzel("jobs", "list", "--state", "paused").stdout == "No jobs.\n"
    assert "--limit" in ouzel("jobs", "list", "--limit", "2").stderr
    assert len(printed("jobs", "list", "--limit", "2")) == 2


def test_times_and_kinds_in_json(server: FakeServer) -> None:
    done = printed("finetune", "0" * 64, "--base", "m", "--name", "pets")
    assert (done["kind"], done["model"], done["failure_class"]) == ("finetune", "pets@1", None)
    created, started, ended = (datetime.fromisoformat(done[name]) for name in ("created", "started", "ended"))
    assert created <= started <= ended
    assert done["seconds"] == (ended - started).total_seconds()
    server.jobs.fail = "model: is no good"
    ouzel("maximize", "m", "--logit", "0")
    failed = printed("jobs", "show", "job-2")
    assert (failed["failure_class"], "model: is no good" in failed["error"]) == ("USER", True)


@pytest.mark.parametrize("words", [("jobs", "delete", "job-1"), ("tuned", "delete", "pets@1")])
def test_nothing_is_removed_unasked(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    ouzel("finetune", "0" * 64, "--base", "m", "--name", "pets")
    assert ouzel(*words).exit_code == 2
    monkeypatch.setattr(terminal, "can_ask", lambda: True)
    runner = click.testing.CliRunner()
    assert runner.invoke(main, words, input="n\n").exit_code == 1
    assert (len(printed("jobs", "list")), len(printed("tuned", "list", "pets"))) == (1, 1)
    result = runner.invoke(main, words, input="y\n")
    assert (result.exit_code, "This cannot be undone." in result.stderr) == (0, True)
    assert (len(printed("jobs", "list")), len(printed("tuned", "list", "pets"))) in ((0, 1), (1, 0))


def test_usage(server: FakeServer) -> None:
    assert "Nothing was used" in ouzel("jobs", "usage").stdout
    ouzel("maximize", "m", "--logit", "cat", "--max-cost", "60")
    (job,) = server.jobs._jobs.values()
    assert job.message.spec.max_cost.seconds == 60
    (row,) = printed("jobs", "usage")["days"]
    assert (row["kind"], row["succeeded"]) == ("maximize", 1)
    assert "maximize" in ouzel("jobs", "usage", "--days", "1").stdout
