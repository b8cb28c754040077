"""How far submissions would scale beyond this machine: measured here, simulated there.

Measured: `ouzel-worker` over PostgreSQL with 16 callers: processor time of a submission by part (worker, PostgreSQL,
callers), what a second worker spends on submissions to the first, what a job that runs costs both, and the statements
of a submission. A lone caller tells what is left for disk and waiting.
Checked: the model (`queueing.py`) of this machine's cores against the rates that one worker and two really have here;
the two were not used for anything else.
Simulated, and marked so: workers with a core each, callers elsewhere, a database with cores of its own, a network
between them whose time for a way there and back is assumed.

    python benchmarks/scaling.py [--workers 1 2 4 8 16 32] [--database-cores 8] [--network 0.2] [--running 0 500]
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil
import psycopg
from job_callers import Place as At
from job_callers import submit
from jobs import CALLERS, OPTIONS, PROCESSES, Callers, stores, until_running
from queueing import Costs, Place, simulate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.jobs import Worker, count, worker

SECONDS = 5.0  # of each round
RUNNING = 12  # jobs, to see what one costs
WATCHED = 15.0  # s that they are looked at
COUNTED = 20  # submissions whose statements are counted
SETTLE = 3.0  # s
_STATEMENT = re.compile(" (?:execute|statement)[ :]")  # as the server's log calls what it has done


@dataclass(frozen=True)
class Used:
    """What a round of submissions took: their rate, seconds of each, and seconds of processors by part."""

    rate: float
    seconds: list[float]
    processor: dict[str, float]


class Parts:
    """Processes whose time is looked at.

    Args:
        processes: By part.
        database: The first of the server's, which starts one for each connection.
    """

    def __init__(self, processes: dict[str, list[psutil.Process]], database: psutil.Process) -> None:
        self._processes, self._database = processes, database

    def used(self) -> dict[str, float]:
        """Seconds of processors up to now, by part."""
        each = {name: sum(sum(one.cpu_times()[:2]) for one in them) for name, them in self._processes.items()}
        database = sum(self._database.cpu_times()[:4])  # with those of its processes that have ended
        for one in self._database.children():
            with suppress(psutil.NoSuchProcess):
                database += sum(one.cpu_times()[:2])
        return each | {"database": database}

    def during(self, run: Callable[[], list[float]]) -> tuple[list[float], dict[str, float]]:
        """What `run` returns, and what the parts took meanwhile."""
        before = self.used()
        out = run()
        return out, {name: after - before[name] for name, after in self.used().items()}


def parts(services: list[Worker], url: str, callers: Iterable[int] = ()) -> Parts:
    """callers: their pids."""
    with psycopg.connect(url) as raw:
        database = psutil.Process(raw.info.backend_pid).parent()
    assert database is not None
    found = {f"worker {number}": [psutil.Process(each.process.pid)] for number, each in enumerate(services)}
    return Parts(found | {"callers": [psutil.Process(pid) for pid in callers]}, database)


@contextmanager
def workers(url: str, total: int) -> Iterator[list[Worker]]:
    """Over one store; a job that goes on holds the slot of each, so that nothing but the queue grows."""
    with ExitStack() as stack:
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        services = []
        for number in range(total):
            options = (*OPTIONS, "--store", str(shared / "models"), "--ledger", str(shared / "ledger"))
            services.append(stack.enter_context(worker(url, shared / str(number), *options)))
            until_running(services[0], services[0].create(count(10**6, 3600)).id)
        yield services


def submitted(callers: Callers, watched: Parts, services: list[Worker], per_process: int) -> Used:
    """Both processes of the callers ask all `services` evenly; `per_process` connections each, 0: one alone."""
    places = [At(each.address, each.metadata) for each in services]

    def run() -> list[float]:
        start = time.time() + 1
        if not per_process:
            return callers.one(submit, places[0], 1, start, SECONDS)
        asked = [(places[number % len(places)], per_process, start, SECONDS) for number in range(PROCESSES)]
        return [spent for each in callers.begin(submit, asked) for spent in each.result()]

    spent, processor = watched.during(run)
    return Used(len(spent) / SECONDS, spent, processor)


def statements(services: list[Worker], url: str) -> float:
    """Of a submission, as the server's own log counts them: each is a way over the network and back."""
    with psycopg.connect(url, autocommit=True) as raw:
        row = raw.execute("SHOW data_directory").fetchone()
        assert row
        log = Path(row[0]) / "log"

        def logged(seconds: float, calls: int = 0) -> int:
            before = len(_STATEMENT.findall(log.read_text(errors="replace")))
            for _ in range(calls):
                services[0].create(count())
            time.sleep(seconds)
            return len(_STATEMENT.findall(log.read_text(errors="replace"))) - before

        raw.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        raw.execute("SELECT pg_reload_conf()")
        time.sleep(1)  # until all its processes have read it
        begun = time.monotonic()
        counted = logged(1, COUNTED)
        return (counted - logged(time.monotonic() - begun)) / COUNTED  # the workers ask of themselves, too


def running(url: str) -> dict[str, float]:
    """Seconds of processors that a running job costs in each second."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--lease", "15", "--checkpoint", "10", "--slots", str(RUNNING))
        with worker(url, Path(folder), *options, "--store", str(Path(folder) / "models")) as service:
            time.sleep(SETTLE)
            _, idle = parts([service], url).during(lambda: time.sleep(WATCHED) or [])
            for job in [service.create(count(10**6, 1.0)).id for _ in range(RUNNING)]:
                until_running(service, job)
            time.sleep(SETTLE)
            _, busy = parts([service], url).during(lambda: time.sleep(WATCHED) or [])
    return {name: max(0.0, busy[name] - idle[name]) / WATCHED / RUNNING for name in ("worker 0", "database")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--database-cores", type=int, default=8)
    parser.add_argument("--network", type=float, default=0.2, help="ms there and back, assumed")
    parser.add_argument("--running", nargs="+", type=int, default=[0, 500], help="jobs that run beside")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    cores = psutil.cpu_count() or 1
    versions = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "psycopg", "simpy"))
    print(f"{date.today()}, {cores} cores, Python {platform.python_version()}, {versions}")
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    with stores("postgres") as new_url, ProcessPoolExecutor(PROCESSES, mp_context=context) as processes:
        callers = Callers(processes)
        rounds: dict[str, list[Used]] = {"one": [], "lone": [], "two": []}
        url = new_url(Path())
        with workers(url, 2) as services:
            pids = processes._processes  # nothing else tells them
            watched = parts(services, url, pids)
            for number in range(chosen.rounds + 1):  # the first warms up
                seen = {
                    "one": submitted(callers, watched, services[:1], CALLERS // PROCESSES),
                    "lone": submitted(callers, watched, services[:1], 0),
                    "two": submitted(callers, watched, services, CALLERS // PROCESSES),
                }
                for name, each in seen.items():
                    rounds[name] += [each] if number else []
            asked = statements(services, url)
        costs = measured(rounds["one"], rounds["lone"], running(new_url(Path())))
    print(f"\n| cost | ms |\n|---|---|\n| statements of a submission | {asked:.1f} (number) |")
    for name, value in vars(costs).items():
        print(f"| {name} | {1000 * value:.3f} |")
    print("\n| this machine | measured per second | simulated | ratio |\n|---|---|---|---|")
    for name, total in (("one", 1), ("two", 2)):
        rate = median(each.rate for each in rounds[name])
        model = simulate(costs, Place(total, CALLERS // total, cores)).rate
        print(f"| {total} | {rate:.0f} | {model:.0f} | {model / rate:.2f} |")
    away = replace(costs, wait=costs.wait + asked * chosen.network / 1000)
    print("\n| simulated: workers | jobs run | per second | p50 / p99 ms | interpreters busy | database busy |")
    print("|---|---|---|---|---|---|")
    for total in chosen.workers:
        for jobs in chosen.running:
            out = simulate(away, Place(total, CALLERS, None, chosen.database_cores, jobs))
            if not out.seconds:
                print(f"| {total} | {jobs} | 0: supervising the jobs takes all |", flush=True)
                continue
            p50, p99 = (1000 * out.seconds[len(out.seconds) * part // 100] for part in (50, 99))
            figures = f"{out.rate:.0f} | {p50:.0f} / {p99:.0f} | {out.worker:.2f} | {out.database:.2f}"
            print(f"| {total} | {jobs} | {figures} |", flush=True)


def measured(one: list[Used], lone: list[Used], job: dict[str, float]) -> Costs:
    """Medians over the rounds, of each submission."""

    def each(rounds: list[Used], part: str) -> float:
        return median(used.processor[part] / len(used.seconds) for used in rounds)

    caller, worker, database = (each(one, part) for part in ("callers", "worker 0", "database"))
    return Costs(
        caller=caller,
        worker=worker,
        notice=each(one, "worker 1"),
        database=database,
        wait=max(0.0, median(median(used.seconds) for used in lone) - caller - worker - database),
        job_worker=job["worker 0"],
        job_database=job["database"],
    )


if __name__ == "__main__":
    main()
