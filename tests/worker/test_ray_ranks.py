"""A training and a search whose workers are actors of a real Ray cluster; `make cluster` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ouzel import models
from ouzel.models.store import ModelStore
from ouzel.worker import kinds
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.isolated import Isolated
from ouzel.worker.processes.ray_options import Resources
from ouzel.worker.runner.runner import Runner, RunnerOptions
from ouzel.worker.runner.supervisor import Slot, Timing
from ouzel.worker.store.job import Job
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import job_pb2 as pb
from support.datasets import stored, two_colours
from support.executors import rays
from support.jobs import ended, environment, submit, until
from support.ray_cluster import Cluster, cluster
from support.tuning import value

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
LONG = 300.0  # s, on a busy machine
TIMING = Timing(beat=0.2, watchdog=300, cancel_grace=1, pause_grace=5, unknown=30.0)
REAL = {kinds.VARIABLE: "ouzel.worker.kinds"}  # the nodes have the stubs
FAST = {"epochs": 3, "batch_size": 8}


@pytest.fixture(scope="module")
def shared(ray_token: Path) -> Iterator[Cluster]:
    with cluster(ray_token, nodes=1) as made:
        yield made


def asked(dataset: str, name: str, workers: int) -> pb.JobSpec:
    parameters = {key: value(each) for key, each in FAST.items()}
    spec = pb.FinetuneSpec(base="base", dataset=dataset, recipe="fine_tune", name=name, workers=workers)
    for key, each in parameters.items():
        spec.parameters[key].CopyFrom(each)
    return pb.JobSpec(finetune=spec)


def prepared(folder: Path, base: Path) -> str:
    """A model store with a base, and a data set; returns the id of that."""
    (folder / "store").mkdir()
    (folder / "store" / "base.mar").write_bytes(base.read_bytes())
    return stored(Datasets(folder / "datasets", isolated=Isolated(None)), "me", two_colours()).id


@contextmanager
def running(shared: Cluster, url: str, folder: Path, told: JobEnvironment) -> Iterator[Store]:
    """The job store of a runner with two slots on the cluster."""
    slots = [Slot(f"ray{number}", REAL) for number in range(2)]
    options: dict[str, Any] = {"patience": 60.0, "resources": {"finetune": Resources(cpus=1)}}
    with closing(open_store(url)) as store, rays(shared, store, folder, **options) as make:
        made = Runner(store, make(), slots, told, options=RunnerOptions(timing=TIMING, lease=10.0))
        made.start()
        try:
            yield store
        finally:
            made.stop()


def actors(node: psutil.Process, name: str = "_Actor") -> list[psutil.Process]:
    found = []
    for each in node.children(recursive=True):
        with suppress(psutil.Error):
            if name in " ".join(each.cmdline()):
                found.append(each)
    return found


def test_actors_compute_with_the_job_and_one_that_dies_costs_an_attempt(
    shared: Cluster, postgres_url: str, tmp_path: Path, tiny_base: Path
) -> None:
    dataset = prepared(tmp_path, tiny_base)
    told = environment(postgres_url, tmp_path, models=tmp_path / "store")
    with running(shared, postgres_url, tmp_path, told) as store:
        job = submit(store, asked(dataset, "two", 2))
        node = psutil.Process(shared.nodes[0].process.pid)
        until(lambda: _trains(store, job) and actors(node) != [], LONG)
        (actor,) = actors(node)
        actor.kill()
        done = ended(store, job, LONG)
        assert done.state.name == "SUCCEEDED", done.error
        assert done.attempt == 2
        until(lambda: actors(node) == [], LONG)  # they end with their job
        alone = ended(store, submit(store, asked(dataset, "one", 1)), LONG)
        assert alone.state.name == "SUCCEEDED", alone.error
    store_of = ModelStore(tmp_path / "store")
    assert [each.version for each in store_of.versions("two")] == ["1"]
    first, second = (models.load(store_of.find(name)).network.state_dict() for name in ("one", "two"))
    for name, each in first.items():
        assert (each.double() - second[name].double()).abs().max() <= 1e-4, name


def test_trials_run_beside_each_other_and_an_actor_that_dies_costs_an_attempt(
    shared: Cluster, postgres_url: str, tmp_path: Path, tiny_base: Path
) -> None:
    dataset = prepared(tmp_path, tiny_base)
    spec = asked(dataset, "searched", 2)
    spec.finetune.trials = 6
    for name in ("epochs", "patience"):  # the first trial runs until the actor has come
        spec.finetune.parameters[name].CopyFrom(value(300))
    spec.finetune.search["learning_rate"].choices.values.extend([value(1e-8), value(3e-3)])
    told = environment(postgres_url, tmp_path, models=tmp_path / "store")
    with running(shared, postgres_url, tmp_path, told) as store:
        job = submit(store, spec)
        node = psutil.Process(shared.nodes[0].process.pid)
        until(lambda: actors(node, "_TrialActor") != [] and len(_under_way(store, job)) == 2, LONG)
        (actor,) = actors(node, "_TrialActor")
        actor.kill()
        done = ended(store, job, LONG)
        assert done.state.name == "SUCCEEDED", done.error
        assert done.attempt == 2
        events = [each.trial for each in store.events("me", job.id, limit=10_000) if each.HasField("trial")]
        assert sorted(each.number for each in events if not each.outcome) == [1, 2, 3, 4, 5, 6]
        assert sorted(each.number for each in events if each.outcome) == [1, 2, 3, 4, 5, 6]
        until(lambda: actors(node, "_TrialActor") == actors(node) == [], LONG)
    assert [each.version for each in ModelStore(tmp_path / "store").versions("searched")] == ["1"]


def _under_way(store: Store, job: Job) -> set[int]:
    """The numbers of trials that have begun and not ended."""
    numbers: set[int] = set()
    for each in store.events("me", job.id, limit=10_000):
        if each.HasField("trial"):
            (numbers.discard if each.trial.outcome else numbers.add)(each.trial.number)
    return numbers


def _trains(store: Store, job: Job) -> bool:
    return store.get("me", job.id).progress.phase == "training"
