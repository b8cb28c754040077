"""Fine-tuning jobs and the models that come of them, through the client."""

from __future__ import annotations

import pytest

from ouzel_client import Client, FailedPrecondition, InvalidArgument, NotFound, StoredModel
from ouzel_client.testing import FakeServer
from ouzel_protos.v1 import job_pb2 as pb

DATASET = "0" * 64


@pytest.fixture
def client():
    with FakeServer() as server, Client(server.target, worker=server.target) as opened:
        yield opened


def sent(job) -> pb.FinetuneSpec:
    return job._message.spec.finetune


def test_what_is_asked_for_arrives(client):
    class Made:
        id = DATASET

    parameters = {"epochs": 3, "learning_rate": 0.5, "flip": False}
    job = client.jobs.finetune(
        "m@1", Made(), name="pets", recipe="fine_tune", promote="always", parameters=parameters, seed=4,
        max_training_seconds=9.0, image_size=96, labels={"who": "me"},
    )  # fmt: skip
    spec = sent(job)
    assert (spec.base, spec.dataset, spec.name, spec.recipe) == ("m@1", DATASET, "pets", "fine_tune")
    assert (spec.promote, spec.seed, spec.max_training_seconds, spec.image_size) == (pb.FinetuneSpec.ALWAYS, 4, 9.0, 96)
    arrived = {key: getattr(value, value.WhichOneof("value")) for key, value in spec.parameters.items()}
    assert arrived == parameters
    assert spec.parameters["flip"].WhichOneof("value") == "flag"
    assert job.result(timeout=10).summary["accuracy"] == 0.9


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"promote": "sometimes"}, "promote"),
        ({"parameters": {"epochs": "many"}}, "parameters.epochs"),
        ({"parameters": {"learning_rate": float("nan")}}, "parameters.learning_rate"),
        ({"seed": 2**70}, "seed"),
        ({"dataset": 3}, "dataset"),
    ],
)
def test_what_cannot_be_sent_is_named(client, change, field):
    with pytest.raises(InvalidArgument) as caught:
        client.jobs.finetune(**({"base": "m", "dataset": DATASET, "name": "pets"} | change))
    assert caught.value.field == field


def test_versions_and_the_default(client):
    for promote in ("never", "if_better", "never"):
        client.jobs.finetune("m", DATASET, name="pets", promote=promote).result(timeout=10)
    versions = client.models.list("pets")
    assert all(isinstance(each, StoredModel) for each in versions)
    assert [(each.version, each.is_default) for each in versions] == [("1", False), ("2", True), ("3", False)]
    assert versions[0].lineage["job"].startswith("job-")
    assert client.models.promote("pets", "1").is_default
    details = client.models.describe("pets")
    assert (details.model.version, details.labels, details.layers["conv"]) == ("1", ("cat", "dog"), (4, 8, 8))
    with pytest.raises(FailedPrecondition):
        client.models.delete("pets", "1")
    client.models.delete("pets", "3")
    assert [each.version for each in client.models.list()] == ["1.0", "1", "2"]
    with pytest.raises(NotFound):
        client.models.describe("pets", "3")


def test_a_version_may_be_part_of_the_name(client):
    model = client.models["pets@2"]
    assert (model.name, model.version) == ("pets", "2")
    assert client.models["pets"].version == ""
