"""The models that the worker keeps, through both twins, against the fake server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ouzel_client as oc
from ouzel_client import Client
from ouzel_client.testing import FakeServer

Call = Callable[..., Any]


def tune(server: FakeServer, times: int = 1, **options: Any) -> None:
    with Client(worker=server.target) as client:
        for _ in range(times):
            client.jobs.finetune("m", "d", name="pets", **options).wait(30)


def test_list(steps: Call, server: FakeServer) -> None:
    (model,) = steps(lambda client: client.models.list())
    assert (model.name, model.version, model.is_default, model.served) == ("m", "1.0", True, True)
    assert (model.arch, model.size, model.classes, model.lineage) == ("fake:net", 1000, 3, {})
    assert model.digest.startswith("sha256:")
    assert {model: 1}[model] == 1
    tune(server, times=2, promote="never")
    assert [(each.name, each.version) for each in steps(lambda client: client.models.list())] == [
        ("m", "1.0"),
        ("pets", "1"),
        ("pets", "2"),
    ]
    first, second = steps(lambda client: client.models.list("pets"))
    assert (first.is_default, second.is_default) == (True, False)
    assert second.lineage["base"] == "m"
    assert second.lineage["metrics"]["accuracy"] == 0.9
    assert steps(lambda client: client.models.list("nothing")) == ()


def test_describe(steps: Call, server: FakeServer) -> None:
    tune(server, times=2, promote="never")
    details = steps(lambda client: client.models.describe("pets"))
    assert {details: 1}[details] == 1
    assert (details.model.version, details.labels) == ("1", ("cat", "dog"))
    assert details.layers == {"conv": (4, 8, 8)}
    assert details.preprocessing["size"] == [8, 8]
    assert steps(lambda client: client.models.describe("pets", "2")).model.version == "2"
    with pytest.raises(oc.NotFound, match="pets"):
        steps(lambda client: client.models.describe("pets", "3"))


def test_promote_and_delete(steps: Call, server: FakeServer) -> None:
    tune(server, times=2, promote="never")
    promoted = steps(lambda client: client.models.promote("pets", "2"))
    assert (promoted.version, promoted.is_default) == ("2", True)
    assert [each.is_default for each in steps(lambda client: client.models.list("pets"))] == [False, True]
    with pytest.raises(oc.FailedPrecondition, match="default"):
        steps(lambda client: client.models.delete("pets", "2"))
    assert steps(lambda client: client.models.delete("pets", "1")) is None
    steps(lambda client: client.models.delete("pets", "2"))
    assert steps(lambda client: client.models.list("pets")) == ()
    with pytest.raises(oc.NotFound):
        steps(lambda client: client.models.promote("pets", "1"))
    tune(server)
    assert [each.version for each in steps(lambda client: client.models.list("pets"))] == ["3"]  # never used anew


def test_what_cannot_be_changed(steps: Call) -> None:
    for method in ("promote", "delete"):
        with pytest.raises(oc.FailedPrecondition, match="operator"):
            steps(lambda client, method=method: getattr(client.models, method)("m", "1.0"))
        with pytest.raises(oc.InvalidArgument, match="version"):
            steps(lambda client, method=method: getattr(client.models, method)("m", ""))


def test_a_worker_that_is_away_is_asked_again(steps: Call, server: FakeServer) -> None:
    server.fail_next("UNAVAILABLE", times=2)
    assert len(steps(lambda client: client.models.list())) == 1
    server.fail_next("RESOURCE_EXHAUSTED")
    with pytest.raises(oc.Overloaded):
        steps(lambda client: client.models.list())


def test_models_are_not_iterated_over(server: FakeServer) -> None:
    with Client(worker=server.target) as client:
        for use in (list, iter):
            with pytest.raises(TypeError, match=r"list\(\) gives those of the store"):
                use(client.models)
        with pytest.raises(TypeError):
            assert "m" in client.models  # type: ignore[operator]


def test_a_token_is_needed(server: FakeServer) -> None:
    server.token = "secret"
    with Client(worker=server.target) as client, pytest.raises(oc.Unauthenticated):
        client.models.list()
    with Client(worker=server.target, worker_token="secret") as client:
        assert client.models.list()


def test_a_version_in_the_name(server: FakeServer, png: bytes) -> None:
    tune(server)
    server.jobs.models.labels = ("fish", "fowl")
    tune(server, promote="always")
    with Client(server.target, worker=server.target) as client:
        assert (client.models["pets@2"].name, client.models["pets@2"].version) == ("pets", "2")
        assert client.models["pets"].version == ""
        first, default = client.models["pets@1"].explain(png), client.models["pets"].explain(png)
        with pytest.raises(oc.NotFound):
            client.models["pets@3"].explain(png)
    assert (first.model.version, first.labels[0]) == ("1", "cat")
    assert (default.model.version, default.labels[0]) == ("2", "fish")
    assert [(each.model, each.version) for each in server.requests[:2]] == [("pets", "1"), ("pets", "")]


@pytest.mark.parametrize("name", ["", "@2", "pets@", None, 3])
def test_names_that_are_none(server: FakeServer, name: Any) -> None:
    with Client(server.target) as client, pytest.raises(oc.InvalidArgument) as caught:
        client.models[name]
    assert caught.value.field == "model"


@pytest.mark.parametrize(
    "call",
    [
        lambda client, png: client.models.list("\ud800"),
        lambda client, png: client.models.describe("\ud800"),
        lambda client, png: client.models.promote("m", "\ud800"),
        lambda client, png: client.models.delete("\ud800@1"),
        lambda client, png: client.models["\ud800"].explain(png),
        lambda client, png: client.models["m"].explain(png, request_id="\ud800"),
    ],
)
def test_what_cannot_be_sent_is_named(server: FakeServer, png: bytes, call: Call) -> None:
    with Client(server.target, worker=server.target) as client, pytest.raises(oc.InvalidArgument, match="ud800"):
        call(client, png)
