"""`client.jobs.audit` and `ouzel audit-dataset` against the fake server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click.testing
import pytest

import ouzel_client as oc
from ouzel_client._cli.main import main
from ouzel_client.testing import FakeServer

DATASET = "0123456789abcdef" * 4
BASIC = ("audit-dataset", DATASET, "--model", "m")
NOON = datetime(2026, 5, 4, 12, tzinfo=timezone(timedelta(hours=2)))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with FakeServer() as running:
        monkeypatch.setenv("OUZEL_WORKER", running.target)
        yield running


def ouzel(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, words)


def only_spec(server: FakeServer) -> Any:
    (job,) = server.jobs._jobs.values()
    return job.message.spec.audit


def test_what_is_asked_for_is_what_is_sent(server: FakeServer) -> None:
    recorded = [oc.RecordedPrediction("a/0.png", "goat", "theirs", NOON), oc.RecordedPrediction("a/1.png", "index:3")]
    with oc.Client(worker=server.target) as client:
        job = client.jobs.audit(
            DATASET, endpoint="theirs", surrogate="m", recorded=recorded, scenes=["beach"], seed=3,
            parameters={"flip": 0.1, "clusters": False}, organisation="The farm", priority=2,
        )  # fmt: skip
        result = job.result(30)
    spec = only_spec(server)
    assert (spec.endpoint, spec.surrogate, list(spec.scenes), spec.seed) == ("theirs", "m", ["beach"], 3)
    assert [(each.path, each.label, each.service) for each in spec.recorded] == [
        ("a/0.png", "goat", "theirs"),
        ("a/1.png", "index:3", ""),
    ]
    assert spec.recorded[0].time.ToJsonString() == "2026-05-04T10:00:00Z"
    assert (spec.parameters["flip"].number, spec.parameters["clusters"].flag) == (0.1, False)
    assert spec.contact.organisation == "The farm"
    assert isinstance(result, oc.DatasetAuditResult)
    assert (result.verdict, result.concern, dict(result.classes)) == ("inconclusive", False, {"cat": "inconclusive"})
    assert (job.kind, job.model, str(result)) == ("audit", "theirs", "inconclusive: Pretended.")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"model": "m", "endpoint": "e"}, "endpoint"),
        ({"model": "m", "recorded": []}, "recorded"),
        ({"model": "m", "recorded": ["a"]}, "recorded[0]"),
        ({"model": "m", "recorded": [oc.RecordedPrediction("a", "b", time=datetime(2026, 1, 1))]}, "recorded[0].time"),
        (
            {
                "model": "m",
                "recorded": [
                    oc.RecordedPrediction("a", "b", time=datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))))
                ],
            },
            "recorded[0].time",
        ),
        ({"model": "m", "parameters": [1]}, "parameters"),
        ({"model": "m", "parameters": {"flip": "much"}}, "parameters.flip"),
        ({"model": "m", "scenes": "beach"}, "scenes"),
        ({"model": "m", "seed": "one"}, "seed"),
    ],
)
def test_what_cannot_be_sent_is_refused(server: FakeServer, arguments: dict[str, Any], field: str) -> None:
    with oc.Client(worker=server.target) as client, pytest.raises(oc.InvalidArgument) as caught:
        client.jobs.audit(DATASET, **arguments)
    assert caught.value.field == field


def test_the_command(server: FakeServer, tmp_path: Path) -> None:
    table = tmp_path / "decisions.csv"
    table.write_text('\ufeffpath,label,time\na/0.png,"goat, white",2026-05-04T12:00:00+02:00\n', encoding="utf-8")
    last = ouzel(*BASIC, "--recorded", str(table), "--set", "flip=0.1", "--scene", "beach")
    assert last.exit_code == 0, last.output
    assert last.stdout.splitlines()[-1] == "inconclusive: Pretended."
    spec = only_spec(server)
    assert [(each.path, each.label) for each in spec.recorded] == [("a/0.png", "goat, white")]
    assert list(spec.scenes) == ["beach"]


def test_json(server: FakeServer) -> None:
    assert json.loads(ouzel(*BASIC, "--json").stdout)["summary"]["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n", "has no rows"),
        ("", "has no column path and no column label"),
        ("path\na\n", "has no column label"),
        ("path,label,label\na,b,c\n", "the column 'label' twice"),
        ("path,label\na,b,c\n", "decisions.csv:2: has more cells than the header"),
        ("path,label,time\na,b,noon\n", "decisions.csv:2: time 'noon' is not a time"),
        ("path,label,time\na,b,2026-01-01\n", "has no time zone"),
        ("path,label\na,b\xff\n".encode("latin-1"), "is not a CSV file in UTF-8"),
    ],
)
def test_tables_that_may_mean_something_else_are_refused(
    server: FakeServer, tmp_path: Path, text: str | bytes, words: str
) -> None:
    table = tmp_path / "decisions.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = ouzel(*BASIC, "--recorded", str(table))
    assert result.exit_code == 1
    assert words in " ".join(result.stderr.split())
    assert not server.jobs._jobs
