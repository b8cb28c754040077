"""The report of a stream has the statistics of an audit of a data set; its page escapes what strangers wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from ouzel.audit.dataset.rows import Flips, ImageRow
from ouzel.databases.database import Connection
from ouzel.databases.sqlite import SqliteDatabase
from ouzel.errors import InvalidArgument
from ouzel.sink import counts
from ouzel.sink.clock import Clock
from ouzel.sink.config import Limits
from ouzel.sink.file import read
from ouzel.sink.report import page, report
from ouzel.sink.schema import SINK
from ouzel.sink.sweeping import Sweeper
from support.sink import write

STRANGE = "<script>alert(1)</script>"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(tmp_path / "sink.db", SINK)
    yield made
    made.close()


def rows() -> list[tuple[str, str, ImageRow]]:
    """(day, why, row): on the second day backgrounds turn sheep."""
    made = []
    for number in range(60):
        day, label = f"2099-01-0{1 + number // 30}", ("goat", "sheep")[number % 2]
        turned = label == "sheep" and number >= 30 and number % 6 != 1
        row = ImageRow(
            f"{number}",
            label,
            predicted=label,
            agrees=number % 10 != 0,
            verdict="rests_on_background" if turned else "rests_on_object",
            mask_source="boxes",
            flips=Flips(turned, number % 20 == 3, not turned, False),
            service="farm",
        )
        made.append((day, "rate", row if number % 10 else replace(row, flips=None)))
    made.append(("2099-01-01", f"class {STRANGE}", ImageRow("x", STRANGE, verdict="refused", reason=STRANGE)))
    return made


def store(database: SqliteDatabase, design: str, some: list[tuple[str, str, ImageRow]]) -> None:
    def work(c: Connection) -> None:
        for day, why, row in some:
            c.run(
                "INSERT INTO results (service, design, day, id, why, row, source, record_sha256) "
                "VALUES ('farm', ?, ?, ?, ?, ?, ?, '')",
                *(design, day, row.name, why, json.dumps(row.to_dict())),
                '{"kind": "endpoint", "name": "farm", "version": "1", "digest": ""}',
            )

    database.write(work)


def test_the_figures_are_those_of_statsmodels(database: SqliteDatabase, tmp_path: Path) -> None:
    config = read(write(tmp_path))
    store(database, config.services[0].sha256(), rows())
    store(database, "another design", rows())
    found = database.read(lambda c: report(c, config))["services"]["farm"]
    assert list(found["days"]) == ["2099-01-01", "2099-01-02"]
    overall = found["random"]["overall"]
    assert overall["images"] == 60
    low, high = proportion_confint(54, 60, method="wilson")
    assert (overall["agreement"]["low"], overall["agreement"]["high"]) == pytest.approx((low, high))
    assert [each["label"] for each in found["random"]["classes"]] == ["goat", "sheep"]
    (sheep,) = [each for each in found["days"]["2099-01-02"]["classes"] if each["label"] == "sheep"]
    tested = [row for day, _, row in rows() if day.endswith("2") and row.claimed == "sheep" and row.flips is not None]
    table = [[0, 0], [0, 0]]
    for row in tested:
        assert row.flips is not None
        table[not row.flips.background][not row.flips.background_control] += 1
    assert sheep["background"]["test"]["p_value"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert sheep["verdict"] == "rests_on_background"
    assert found["days"]["2099-01-01"]["overall"]["verdict"] == "rests_on_object"
    assert found["conditions"][f"class {STRANGE}"]["overall"]["refused"] == 1
    one = database.read(lambda c: report(c, config, days=1))["services"]["farm"]
    assert list(one["days"]) == ["2099-01-02"]
    with pytest.raises(InvalidArgument, match="days: 0"):
        database.read(lambda c: report(c, config, days=0))


def test_the_page_escapes_what_strangers_wrote(database: SqliteDatabase, tmp_path: Path) -> None:
    config = read(write(tmp_path))
    store(database, config.services[0].sha256(), rows())
    html = page(database.read(lambda c: report(c, config)))
    assert STRANGE not in html
    assert "&lt;script&gt;" in html
    assert "2099-01-02" in html
    assert page(database.read(lambda c: report(c, config, "farm"))).count("<h2") == html.count("<h2")
    assert "None." in page(report_of_nothing(tmp_path))


def report_of_nothing(folder: Path) -> dict[str, object]:
    database = SqliteDatabase(folder / "empty.db", SINK)
    try:
        return database.read(lambda c: report(c, read(folder / "sink.toml")))
    finally:
        database.close()


def test_old_results_go_and_counts_stay(database: SqliteDatabase, tmp_path: Path) -> None:
    config = read(write(tmp_path))
    today = datetime.fromtimestamp(time.time(), UTC).date().isoformat()
    (old, why, row), *_ = rows()
    assert old > today
    store(database, config.services[0].sha256(), [("2001-01-01", why, row)] * 700 + [(today, why, row)] * 3)
    database.write(lambda c: counts.count(c, "farm", counts.AUDITED, 1406))
    Sweeper(database, Clock(database), Limits()).sweep()
    assert database.read(lambda c: c.one("SELECT COUNT(*), MIN(day) FROM results")) == (3, today)
    assert database.read(counts.read)["farm"]["audited"] == {"": 1406}
