"""Rows 1 to 18 of what must hold, asked of the real services through the front door: `make reliability`.

TorchServe, a worker and a gateway with TLS, tenants and keys run as processes of their own. Each input is sent over
gRPC and over REST. It prints a table, and ends with 1 if an answer is another than expected.
"""

from __future__ import annotations

import argparse
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from support.front_door import FrontDoor, front_door
from support.gateway import MODEL, write_store
from support.reliability import faults
from support.reliability.cases import Answer, Case, Target, cases
from support.reliability.faults import Shown

HIDDEN = "secret"
_WORKERS = 2
_MOST_MIB = 64.0 + 20.0  # that the gateway may grow by for what it refuses: gRPC unpacks up to the largest message


def foreign_job(door: FrontDoor) -> str:
    with door.client(door.foreign, timeout=150) as client:
        return client.jobs.maximize(MODEL, logit=0, recipe="pixel", parameters={"steps": 1}).id


def simple(target: Target, case: Case) -> Shown:
    """One input over both protocols. Messages that are too large must not make the gateway large."""
    process = target.door.gateway.pid
    answers: list[Answer] = []
    before = _peak(process, reset=True)
    for ask in (case.grpc, case.rest):
        assert ask is not None
        answers.append(ask(target))
    grown = _peak(process) - before
    holds = answers[0].status in case.told and answers[1].status in case.status
    holds &= not any("Traceback" in each.words for each in answers)
    said = [f"{each.status} ({each.seconds * 1e3:.0f} ms)" for each in answers]
    what = case.what
    if case.row == 4:
        what += f"; the gateway's memory {grown:+.0f} MiB at most"
        holds &= grown < _MOST_MIB
    return Shown(case.row, what, *said, holds)


def _peak(pid: int, reset: bool = False) -> float:
    """MiB that a process has held at most, since the last reset."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def rows(store: Path, folder: Path, kills: int) -> Iterator[Shown]:
    shutil.copy(store / f"{MODEL}.mar", store / f"{HIDDEN}.mar")  # not of the caller's tenant
    services = ("--workers", str(_WORKERS), "--threads", "1", "--loaded-versions", "1")
    (folder / "first").mkdir()
    with front_door(store, folder / "first", services=services) as door, door.channel() as channel:
        target = Target(door, channel, door.key, MODEL, HIDDEN, foreign_job(door))
        with suppress(Exception):
            simple(target, cases()[0])  # connections, threads
        for case in cases():
            yield simple(target, case)
        yield faults.silent_strangers(target)
        yield faults.one_bad_of_four(target)
        yield faults.large_answer(target)
        yield faults.killed(target, _WORKERS, kills)
    narrow = ("--workers", "1", "--threads", "1", "--loaded-versions", "1", "--queue-size", "5", "--batch-size", "1")
    (folder / "second").mkdir()
    with front_door(store, folder / "second", services=(*narrow, "--no-worker")) as door, door.channel() as channel:
        target = Target(door, channel, door.key, MODEL)
        yield from faults.late(target)
        yield faults.overloaded(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    chosen = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory(prefix="ouzel-rows-") as place:
        folder = Path(place)
        found = []
        for shown in rows(write_store(folder / "store"), folder, chosen.kills):
            found.append(shown)
            print(f"{shown.row} {shown.what}: {shown.grpc} | {shown.rest} {'' if shown.holds else 'NO'}", flush=True)
    print(f"\n{time.strftime('%Y-%m-%d')}, {platform.machine()}, {platform.system()}\n")
    print("| row | sent | gRPC | REST | as expected |\n|---|---|---|---|---|")
    for each in sorted(found, key=lambda each: each.row):
        print(f"| {each.row} | {each.what} | {each.grpc} | {each.rest} | {'yes' if each.holds else 'NO'} |")
    sys.exit(0 if all(each.holds for each in found) else 1)


if __name__ == "__main__":
    main()
