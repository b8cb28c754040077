"""`ouzel audit sink` is a verb below `ouzel audit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ouzel.databases.sqlite import SqliteDatabase
from ouzel.sink.schema import SINK
from ouzel.sink.server import FILE
from ouzel_client._cli.main import main
from support.sink import fake_worker, sink, write


def ouzel(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_the_verb_is_found_below_audit_and_a_file_of_its_name_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sink").write_bytes(b"x")
    assert "audit sink" in ouzel("--help").output
    assert ouzel("audit", "sink", "--help").output.startswith("Usage: main audit sink")
    given = ouzel("audit", "./sink")
    assert (given.exit_code, "--claimed" in given.output) == (2, True)


def test_a_file_is_checked(tmp_path: Path) -> None:
    checked = ouzel("audit", "sink", str(write(tmp_path)), "--check")
    assert json.loads(checked.output)["farm"]["rate"] == 1.0
    refused = ouzel("audit", "sink", str(write(tmp_path, "rate = 3")), "--check")
    assert (refused.exit_code, refused.output) == (1, "Error: services.farm.rate: 3 is not within 0..1\n")


def test_reports_are_read_beside_a_sink_that_runs_and_two_do_not_run(tmp_path: Path) -> None:
    file = write(tmp_path)
    options = ["--state", str(tmp_path / "state")]
    assert "there is no sink" in ouzel("audit", "sink", str(file), *options, "--report").output
    with fake_worker() as worker, sink(file, worker) as found:
        found.pair("a")
        found.wait(lambda each: each["outcomes"]["audited"] == 2)
        report = json.loads(ouzel("audit", "sink", str(file), *options, "--report").output)
        assert report == json.loads(found.ask("GET", "/report")[1])
        assert report["services"]["farm"]["random"]["overall"]["verdicts"] == {"rests_on_object": 1}
        second = ouzel("audit", "sink", str(file), *options, "--port", "0")
        assert (second.exit_code, "another sink runs" in second.output) == (1, True)
        assert "there is no alert 7" in ouzel("audit", "sink", str(file), *options, "--clear", "7").output


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    file = write(tmp_path)
    database = SqliteDatabase(tmp_path / "state" / FILE, SINK)
    database.close()
    path = tmp_path / "state" / FILE
    path.write_bytes(b"no database at all" * 400)
    told = ouzel("audit", "sink", str(file), "--state", str(tmp_path / "state"), "--port", "0")
    assert (told.exit_code, "is damaged" in told.output) == (1, True)
