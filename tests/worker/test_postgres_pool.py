"""The pool of connections: its limit, what callers learn when there is none, and what is left of it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from ouzel.databases import postgres_pool
from ouzel.databases.postgres import PostgresDatabase
from ouzel.databases.postgres_pool import PostgresPool
from ouzel.errors import Unavailable
from ouzel.worker.store.schema import JOBS


@pytest.fixture
def pool(postgres: str) -> Iterator[PostgresPool]:
    with closing(PostgresPool(f"{postgres}&application_name=pool-test", JOBS.words)) as opened:
        yield opened


def connections(url: str) -> int:
    """How many connections of `pool` the server has."""
    with psycopg.connect(url) as raw:
        row = raw.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pool-test'").fetchone()
    assert row is not None
    return int(row[0])


def test_the_seventeenth_caller_is_refused_after_a_while(
    pool: PostgresPool, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pool, "_WAIT", 0.2)
    with ExitStack() as stack:
        lent = {id(stack.enter_context(pool.lend())) for _ in range(16)}
        assert len(lent) == connections(postgres) == 16
        with pytest.raises(Unavailable, match="16 calls of the job store are under way"), pool.lend():
            pass
    with pool.lend() as raw:
        assert id(raw) in lent


def test_a_caller_gets_the_connection_that_another_one_returns(pool: PostgresPool) -> None:
    """It waits for several turns."""
    got = []

    def wait() -> None:
        with pool.lend() as raw:
            got.append(raw)

    with ExitStack() as stack:
        lent = [stack.enter_context(pool.lend()) for _ in range(16)]
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.2)
        assert not got
    waiting.join(20)
    assert got[0] in lent


def test_connections_are_as_they_were_ordered(pool: PostgresPool) -> None:
    with pool.connect() as own, pool.lend() as raw:
        for each in (raw, own):
            assert each.autocommit
            assert each.prepare_threshold is None
            for name, value in (("synchronous_commit", "on"), ("lock_timeout", "10s"), ("statement_timeout", "20s")):
                assert each.execute(f"SHOW {name}").fetchone() == (value,)


def test_an_open_transaction_is_not_lent_to_the_next_caller(pool: PostgresPool) -> None:
    with pool.lend() as raw:
        raw.execute("BEGIN")
        raw.execute("CREATE TABLE never (n INT)")
    with pool.lend() as raw:
        assert raw.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        assert raw.execute("SELECT to_regclass('never')").fetchone() == (None,)


def test_closing_ends_connections_and_threads(postgres: str) -> None:
    before = set(threading.enumerate())
    pool = PostgresPool(f"{postgres}&application_name=pool-test", JOBS.words)
    with pool.lend():
        with pool.lend():
            pass
        own = set(threading.enumerate()) - before
        assert own
        assert all(each.daemon for each in own)  # a process may end without closing
        pool.close()
    for each in own:
        each.join(5)  # that which watches what is lent ends after it
    assert not any(each.is_alive() for each in own)
    deadline = time.monotonic() + 20
    while connections(postgres):
        assert time.monotonic() < deadline
    with pytest.raises(psycopg.OperationalError, match="closed"), pool.lend():
        pass


def test_a_server_that_is_away_is_told_with_its_cause(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the library does not log each attempt besides."""
    caplog.set_level(logging.INFO)
    with closing(PostgresPool(f"postgresql://postgres@/postgres?host={tmp_path}")) as pool:
        for _ in range(3):
            with pytest.raises(psycopg.OperationalError, match=str(tmp_path)), pool.lend():
                pass
    assert not caplog.records


def test_pools_of_others_log_as_they_did(postgres: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "psycopg.pool")
    with closing(PostgresPool(postgres)) as own, own.lend():
        pass
    assert not caplog.records
    with ConnectionPool(postgres, name="another", min_size=0, max_size=1, open=True) as other, other.connection():
        pass
    assert any("another" in each.getMessage() for each in caplog.records)


def test_a_server_that_accepts_and_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres_pool._OPTIONS, "connect_timeout", 2)  # s, libpq's least
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/nothing"
        with pytest.raises(Unavailable, match=r"job store does not answer .*timeout"):
            PostgresDatabase(url, JOBS)
        monkeypatch.setattr(postgres_pool, "_WAIT", 0.2)
        with pytest.raises(Unavailable, match="no connection within"):
            PostgresDatabase(url, JOBS)
