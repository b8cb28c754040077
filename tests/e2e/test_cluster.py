"""All parts of a cluster at once: Ray with three nodes, PostgreSQL, a bucket, two workers, two TorchServes with agents.

`make cluster` runs this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ouzel.worker import kinds
from support import nodes, postgres, ray_cluster, seaweed
from support.jobs import until
from support.nodes import LONG, Cluster, finetune

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with seaweed.seaweed() as weed, postgres.server(durable=False) as url, pytest.MonkeyPatch.context() as patch:
        token = ray_cluster.new_token(folder)
        for name, value in (weed.variables | ray_cluster.variables(token)).items():
            patch.setenv(name, value)
        with ray_cluster.cluster(token, nodes=3, more={kinds.VARIABLE: kinds.__name__}) as ray:  # not the stubs
            more = ("--executor", "ray", "--ray-address", ray.address, "--ray-python", sys.executable, "--slots", "2")
            place = f"s3://{weed.make('ouzel')}/models"
            with nodes.cluster(place, url, folder, workers=2, more=more) as running:
                yield running


def test_maximize_tune_audit_promote(cluster: Cluster) -> None:
    """What one worker was asked for is seen through the other."""
    with cluster.client(0) as one, cluster.client(1) as other:
        drawn = one.jobs.maximize("base", logit="dog", parameters={"steps": 4})
        assert other.jobs.get(drawn.id).result(timeout=LONG).summary
        assert [each.name for each in other.jobs.get(drawn.id).artifacts()]
        images = cluster.folder / "images"
        tuned = finetune(one, images, name="colours", promote="always", recipe="fine_tune", workers=2)
        told = other.jobs.get(tuned.id).result(timeout=2 * LONG)
        assert (told.summary["served"], told.summary["promoted"], told.summary["version"]) == (True, True, "1")
        until(lambda: cluster.served("colours", "1"), LONG)
        audited = other.jobs.audit(other.datasets.upload(images), model="colours@1")
        assert one.jobs.get(audited.id).result(timeout=LONG).summary
        again = finetune(other, images, name="colours", promote="never", seed=1)
        assert again.result(timeout=LONG).summary["promoted"] is False
        assert cluster.served("colours", "1")
        one.models.promote("colours", "2")
        until(lambda: cluster.served("colours", "2"), LONG)
