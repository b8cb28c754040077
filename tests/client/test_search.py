"""Searches and several workers: what is sent, told and shown, through both twins and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click.testing
import pytest

import ouzel_client as oc
from ouzel_client._cli.main import main
from ouzel_client.testing import FakeServer
from ouzel_protos.search import Choices, Interval
from ouzel_protos.v1 import job_pb2 as pb

DATASET = "0123456789abcdef" * 4
BASIC = ("finetune", DATASET, "--base", "m", "--name", "pets")
Steps = Callable[..., Any]


def finetune(**options: Any) -> Any:
    return lambda client: client.jobs.finetune("m", DATASET, name="pets", **options)


def last_spec(server: FakeServer) -> pb.FinetuneSpec:
    return list(server.jobs._jobs.values())[-1].message.spec.finetune


def ouzel(server: FakeServer, *words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, words, env={"OUZEL_WORKER": server.target})


def test_a_search_is_sent_and_told(steps: Steps, server: FakeServer) -> None:
    space = {"learning_rate": (1e-5, 1e-2, "log"), "crop": (0.2, 1), "flip": [True, False], "batch_size": [4, 8]}
    events = steps(finetune(search=space, trials=3, workers=2, recipe="scratch"), lambda job: job.events())
    sent = last_spec(server)
    rate = sent.search["learning_rate"].interval
    assert (rate.low, rate.high, rate.log) == (1e-5, 1e-2, True)
    assert (sent.search["crop"].interval.high, sent.search["crop"].interval.log) == (1.0, False)
    assert [each.flag for each in sent.search["flip"].choices.values] == [True, False]
    assert [each.integer for each in sent.search["batch_size"].choices.values] == [4, 8]
    assert (sent.trials, sent.workers) == (3, 2)
    told = [each for each in events if isinstance(each, oc.TrialEvent)]
    assert [(each.number, each.outcome, each.score) for each in told[:4]] == [
        (1, "began", None), (1, "complete", 0.9), (2, "began", None), (2, "pruned", 0.5)
    ]  # fmt: skip
    assert told[0].parameters == {"batch_size": 4, "crop": 0.2, "flip": True, "learning_rate": 1e-5}
    assert str(told[0]) == "trial 1 of 3 (batch_size 4, crop 0.2, flip 1, learning_rate 1e-05) begins"
    assert str(told[3]).endswith("): 50.0 % after 1 epochs, stopped")
    (job,) = server.jobs._jobs
    result = steps(lambda client: client.jobs.get(job), lambda job: job.result())
    assert result.search["best"]["parameters"]["learning_rate"] == 1e-5
    assert [row["outcome"] for row in result.search["table"]] == ["complete", "pruned", "complete"]


def test_without_a_search_there_is_none(steps: Steps, server: FakeServer) -> None:
    assert steps(finetune(), lambda job: job.result(30)).search is None
    assert (last_spec(server).trials, last_spec(server).workers, len(last_spec(server).search)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"search": {"learning_rate": (1e-2, 1e-5)}}, "search.learning_rate"),
        ({"search": {"learning_rat": (1e-5, 1e-2)}}, "search.learning_rat"),
        ({"search": {"weight_decay": (0, 1e-2, "log")}}, "search.weight_decay"),
        ({"search": {}}, "search"),
        ({"search": {"crop": (0.2, 1)}, "trials": 257}, "trials"),
        ({"search": {"crop": (0.2, 1)}, "recipe": "segment"}, "search"),
        ({"search": {"crop": (0.2, 1)}, "parameters": {"crop": 0.5}}, "search.crop"),
        ({"search": {"batch_size": [4, 2**70]}}, "search.batch_size"),
        ({"search": {"learning_rate": (1e-5, 10**400)}}, "search.learning_rate"),
        ({"search": {"learning_rate": (float("nan"), 1)}}, "search.learning_rate"),
        ({"search": {"learning_rate": [1e-5, 10**400]}}, "search.learning_rate"),
        ({"search": {"learning_rate": [[1e-5], [1e-4]]}}, "search.learning_rate"),
        ({"search": {"learning_rate": Interval("low", "high")}}, "search.learning_rate"),  # type: ignore[arg-type]
        ({"search": {"learning_rate": Choices(None)}}, "search.learning_rate"),  # type: ignore[arg-type]
        ({"search": {1: (1e-5, 1e-2)}}, "search.1"),
        ({"search": {"crop": (0.2, 1)}, "trials": 0}, "trials"),
        ({"search": {"crop": (0.2, 1)}, "trials": 2**31}, "trials"),
        ({"trials": 0}, "trials"),
        ({"trials": 2**31}, "trials"),
        ({"workers": "two"}, "workers"),
        ({"workers": 0}, "workers"),
        ({"workers": -1}, "workers"),
        ({"workers": 2**31}, "workers"),
    ],
)
def test_what_cannot_be_searched_is_not_sent(
    steps: Steps, server: FakeServer, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(oc.InvalidArgument) as caught:
        steps(finetune(**options))
    assert caught.value.field == field
    assert not server.jobs._jobs


def test_the_command_line_sends_and_shows_it(server: FakeServer) -> None:
    words = ("--search", "learning_rate=1e-5:1e-2:log", "--search", "flip=true,false", "--trials", "2")
    result = ouzel(server, *BASIC, *words, "--workers", "3", "--max-cost", "60")
    assert result.exit_code == 0, result.output
    assert "Search: trial 1 of 2 was the best, with flip 1, learning_rate 1e-05" in result.stdout
    assert "trial 2 of 2 (flip 1, learning_rate 1e-05): 50.0 % after 1 epochs, stopped" in result.stderr
    sent = last_spec(server)
    assert (sent.search["learning_rate"].interval.log, sent.trials, sent.workers) == (True, 2, 3)
    assert list(server.jobs._jobs.values())[-1].message.spec.max_cost.seconds == 60
    watched = ouzel(server, "jobs", "watch", "job-1", "--json")
    rows = [json.loads(line) for line in watched.stdout.splitlines()]
    trial = next(row for row in rows if row["event"] == "trial" and row["outcome"] == "pruned")
    assert (trial["number"], trial["score"], trial["parameters"]["learning_rate"]) == (2, 0.5, 1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--search", "learning_rate"), "is not NAME=LOW:HIGH"),
        (("--search", "learning_rate=1:2:cube"), "is not LOW:HIGH or LOW:HIGH:log"),
        (("--search", "crop=0.2:1", "--search", "crop=0.3:1"), "crop comes twice"),
        (("--search", "learning_rate=1e-2:1e-5"), "is empty"),
    ],
)
def test_the_command_line_refuses_in_words(server: FakeServer, words: tuple[str, ...], said: str) -> None:
    result = ouzel(server, *BASIC, *words)
    assert result.exit_code != 0
    assert said in " ".join(result.output.split())
    assert not server.jobs._jobs


@pytest.mark.parametrize("verb", [("audit-dataset", DATASET, "--model", "m"), BASIC])
def test_max_cost_is_sent(server: FakeServer, verb: tuple[str, ...]) -> None:
    result = ouzel(server, *verb, "--max-cost", "90", "--detach")
    assert result.exit_code == 0, result.output
    assert list(server.jobs._jobs.values())[-1].message.spec.max_cost.seconds == 90


def test_links_are_shown(server: FakeServer) -> None:
    assert ouzel(server, *BASIC).exit_code == 0
    refused = ouzel(server, "jobs", "links", "job-1")
    assert refused.exit_code != 0
    assert "gives no links" in refused.output
    file = server.jobs._jobs["job-1"].message.result.artifacts[0]
    file.url = "https://example.org/file?signature=x"
    file.url_expire_time.FromJsonString("2027-01-31T10:00:00Z")
    shown = ouzel(server, "jobs", "links", "job-1", "--name", file.name)
    assert shown.exit_code == 0, shown.output
    assert file.url in shown.stdout
    assert file.sha256 in shown.stdout
    (row,) = json.loads(ouzel(server, "jobs", "links", "job-1", "--name", file.name, "--json").stdout)
    assert (row["url"], row["sha256"]) == (file.url, file.sha256)
    assert "has no file 'nothing'" in ouzel(server, "jobs", "links", "job-1", "--name", "nothing").output
