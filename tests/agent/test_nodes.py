"""Two real TorchServes with an agent each, a bucket, PostgreSQL and a worker; `make cluster` runs this.

One of the TorchServes gives each version processes of its own, the other one has a pool.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ouzel.buckets import Prefix
from ouzel.registry.opening import open_registry
from ouzel.registry.reports import parse_reports
from ouzel_protos.local import read_serving
from support import nodes, postgres, seaweed
from support.command import ouzel
from support.jobs import processes_of, until
from support.nodes import LONG, Cluster, finetune
from support.tuned import publish

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("nodes")
    with seaweed.seaweed() as weed, postgres.server(durable=False) as url, pytest.MonkeyPatch.context() as patch:
        for name, value in weed.variables.items():
            patch.setenv(name, value)
        with nodes.cluster(f"s3://{weed.make('ouzel')}/models", url, folder) as running:
            yield running


def told(cluster: Cluster) -> Mapping[str, Any]:
    return {each.node: each for each in parse_reports(open_registry(cluster.place).reports())}


def test_a_finetune_reaches_both(cluster: Cluster) -> None:
    with cluster.client() as client:
        job = finetune(client, cluster.folder / "images", name="colours", promote="always")
        result = job.result(timeout=LONG)
        assert (result.summary["served"], result.summary["promoted"], result.summary["version"]) == (True, True, "1")
        until(lambda: cluster.served("colours", "1"), LONG)
        (model,) = [each for each in client.models.list() if each.name == "colours"]
        assert (model.served, model.is_default) == (True, True)


def test_a_promotion_is_followed(cluster: Cluster) -> None:
    version = publish(cluster.store, "by hand", 7, name="followed", owner="local")
    second = publish(cluster.store, "by hand again", 8, name="followed", owner="local")
    until(lambda: cluster.served("followed", version), LONG)
    variables = os.environ | {"OUZEL_STATE": str(cluster.folder / "operator"), "OUZEL_MODEL_STORE": cluster.place}
    ouzel(variables, "models", "promote", f"followed@{second}", "--quorum", "2")
    until(lambda: cluster.served("followed", second), LONG)
    with cluster.client() as client:  # and back, as its owner
        client.models.promote("followed", version)
        until(lambda: cluster.served("followed", version), LONG)
        client.models.delete("followed", second)
        until(lambda: all(node.answer("followed", second) == "" for node in cluster.nodes), LONG)
        assert cluster.served("followed", version)


@pytest.mark.parametrize("number", [0, 1], ids=["own processes", "pool"])
def test_a_machine_that_was_down_catches_up(cluster: Cluster, number: int) -> None:
    node, name = cluster.nodes[number], f"down-{number}"
    old, new = (publish(cluster.store, f"{name} {seed}", seed, name=name, owner="local") for seed in (11, 12))
    until(lambda: cluster.served(name, old), LONG)
    node.kill()
    node.stop_agent(signal.SIGKILL)
    cluster.store.promote(name, new)
    cluster.store.withdraw(name, old)
    node.start_agent()
    node.up()
    until(lambda: cluster.served(name, new), LONG)
    assert [each.answer(name, old) for each in cluster.nodes] == ["", ""]


def test_a_torchserve_that_dies_is_filled_again(cluster: Cluster) -> None:
    """`ouzel up` starts it again by itself; the agent sees another one."""
    node = cluster.nodes[0]
    version = publish(cluster.store, "dies", 21, name="dies", owner="local")
    until(lambda: cluster.served("dies", version), LONG)
    serving = read_serving(node.folder / "state")
    assert serving is not None
    os.kill(serving["pid"], signal.SIGKILL)
    second = publish(cluster.store, "dies again", 22, name="dies", owner="local")
    cluster.store.promote("dies", second)
    until(lambda: cluster.served("dies", second), LONG)


def test_a_damaged_archive_is_refused(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.stop_agent()
    version = publish(cluster.store, "damaged", 31, name="damaged", owner="local")
    second = publish(cluster.store, "damaged again", 32, name="damaged", owner="local")
    key = open_registry(cluster.place).record("damaged").find(second).key
    prefix = Prefix(cluster.place, "test")
    whole = bytes(prefix.api.get(prefix.store, key).bytes())
    prefix.api.put(prefix.store, key, whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    for node in cluster.nodes:
        node.start_agent()
    until(lambda: cluster.served("damaged", version), LONG)

    def problems() -> dict[str, str]:
        return {node: each.errors.get("damaged@2", "") for node, each in told(cluster).items()}

    until(lambda: len(problems()) == 2 and all(problems().values()), LONG)
    assert all("SHA-256 differs" in problem for problem in problems().values())
    assert all(node.answer("damaged", second) == "" for node in cluster.nodes)


def test_a_job_that_is_killed_before_its_promotion(cluster: Cluster) -> None:
    """Its version is in the bucket and one of two nodes serves it; then its process is killed."""
    node = cluster.nodes[1]
    node.stop_agent()
    with cluster.client() as client:
        job = finetune(client, cluster.folder / "images", name="killed", promote="always")
        until(lambda: "1" in told(cluster)["node-1"].versions.get("killed", {}), LONG)
        (record,) = open_registry(cluster.place).record("killed").versions
        for process in processes_of(job.id):
            process.kill()
        until(lambda: job.refresh().attempt > 1, LONG)
        node.start_agent()
        result = job.result(timeout=LONG)
        assert (result.summary["version"], result.summary["promoted"]) == ("1", True)
    assert open_registry(cluster.place).record("killed").versions == (record,)  # the same archive, and one version
    until(lambda: cluster.served("killed", "1"), LONG)
