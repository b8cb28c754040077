"""The tamper-evident log against its aims: durable appends per second, seconds to verify, bytes of a proof.

Appends: threads of one process add entries like those of audits, each waits until its own is on the disk (SQLite:
fsync of the write-ahead log; PostgreSQL: fsync on, synchronous_commit on). The log is published beside, every 0.1 s.
Verifying reads a folder of
100,000 entries and computes all of it again; comparing reads the database too.

    python benchmarks/ledger.py [--seconds 5] [--entries 100000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from ouzel.ledger import compare, open_database, open_storage, verify
from support.ledgers import Place
from support.postgres import server

IMAGE = hashlib.sha256(b"a photograph").hexdigest()
FACTS = {
    "model": "efficientnet-lite0@1",
    "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
    "record_sha256": hashlib.sha256(b"record").hexdigest(),
    "verdict": "SHORTCUT",
    "probability": 0.9713,
}
THREADS = (1, 16, 100)
PUBLISH = 0.1  # s


def appends(place: Place, threads: int, seconds: float) -> float:
    """Entries per second."""
    ledger = place.open(publish_every=PUBLISH)
    counts, end = [0] * threads, time.perf_counter() + seconds

    def run(thread: int) -> None:
        while time.perf_counter() < end:
            ledger.append("audit", FACTS, images=[IMAGE], owner="alice")
            counts[thread] += 1

    started = time.perf_counter()
    running = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    rate = sum(counts) / (time.perf_counter() - started)
    ledger.close()
    return rate


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    value = work()
    return time.perf_counter() - started, value


def large(place: Place, entries: int) -> None:
    """Verifying and proving in a log with many entries."""
    ledger = place.open()

    def fill(count: int) -> None:
        for _ in range(count):
            ledger.append("audit", FACTS, images=[IMAGE], owner="alice")

    running = [threading.Thread(target=fill, args=(entries // 64,)) for _ in range(64)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    fill(entries - entries // 64 * 64)
    publishing, _ = timed(ledger.publish)
    receipt = ledger.append("audit", FACTS, images=[IMAGE], owner="alice")
    pending, _ = timed(lambda: ledger.prove(receipt))
    known, proof = timed(lambda: ledger.prove(entries // 2))
    storage = open_storage(place.tiles)
    seconds, result = timed(lambda: verify(storage, ledger.key))
    assert result.ok, result.problems
    database = open_database(place.url)
    comparing, problems = timed(lambda: compare(database, result))
    assert not problems
    database.close()
    ledger.close()
    size = sum(path.stat().st_size for path in place.tiles.rglob("*") if path.is_file())
    print(f"\n{entries + 1} entries of {len(receipt.entry)} bytes\n")
    print("| | |\n|---|---|")
    print(f"| verify the files, s | {seconds:.2f} |")
    print(f"| compare the database, s | {comparing:.2f} |")
    print(f"| number and publish all of them at once, s | {publishing:.2f} |")
    print(f"| prove a new entry (publishes), ms | {1000 * pending:.0f} |")
    print(f"| prove an entry that is published, ms | {1000 * known:.1f} |")
    print(f"| proof, bytes | {len(proof.encode())} |")
    print(f"| published files, MB | {size / 1e6:.0f} |")


@contextmanager
def postgres() -> Iterator[Callable[[Path], Place]]:
    with server(durable=True) as url:

        def place(folder: Path) -> Place:
            name = f"ledger_{uuid.uuid4().hex}"
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"')
            return Place(url.replace("/postgres?", f"/{name}?"), folder)

        yield place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measure of appends")
    parser.add_argument("--entries", type=int, default=100_000, help="of the log that is verified")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{date.today()}, Python {platform.python_version()}, apsw {version('apsw')}, psycopg {version('psycopg')}\n")
    scratch = Path(tempfile.mkdtemp(prefix="ledger-"))
    try:
        with postgres() as on_postgres:
            places: dict[str, Callable[[Path], Place]] = {
                "SQLite": lambda folder: Place(f"sqlite://{folder / 'ledger.db'}", folder),
                "PostgreSQL": on_postgres,
            }
            rates: dict[tuple[str, int], list[float]] = {}
            for number in range(options.rounds):
                for name, new in places.items():
                    for threads in THREADS:
                        folder = scratch / f"{name}-{threads}-{number}"
                        rates.setdefault((name, threads), []).append(appends(new(folder), threads, options.seconds))
            print("| appends/s, median (worst) | " + " | ".join(f"{n} threads" for n in THREADS) + " |")
            print("|---|" + "---|" * len(THREADS))
            for name in places:
                cells = [f"{median(rates[name, n]):.0f} ({min(rates[name, n]):.0f})" for n in THREADS]
                print(f"| {name} | " + " | ".join(cells) + " |")
        large(places["SQLite"](scratch / "large"), options.entries)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
