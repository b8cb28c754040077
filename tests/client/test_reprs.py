"""Objects of the client say what they are, and lists of names take NAME@VERSION."""

from __future__ import annotations

import asyncio

import pytest

from ouzel_client import AsyncClient, Client, InvalidArgument


def test_what_objects_say(server):
    with Client(server.target, worker=server.target) as client:
        where = f"Client({server.target!r}, worker={server.target!r})"
        assert repr(client) == where
        assert repr(client.models) == f"Models(of {where})"
        assert repr(client.jobs) == f"Jobs(of {where})"
        assert repr(client.datasets) == f"Datasets(of {where})"
        assert repr(client.models["m"]) == f"Model('m', its default version, of {where})"
        assert repr(client.models["m@2"]) == f"Model('m', version '2', of {where})"
        server.jobs.hold = True
        job = client.jobs.maximize("m", logit=0)
        assert repr(job) == "Job('job-1', maximize, m, QUEUED)"
        server.jobs.hold = False
        job.wait(30)
        assert repr(job) == "Job('job-1', maximize, m, SUCCEEDED, 100 %)"


def test_what_their_asyncio_twins_say(server):
    async def call():
        async with AsyncClient(server.target) as client:
            return repr(client), repr(client.jobs), repr(client.models["m"])

    where = f"AsyncClient({server.target!r})"
    assert asyncio.run(call()) == (where, f"AsyncJobs(of {where})", f"AsyncModel('m', its default version, of {where})")


def test_a_version_within_the_name(server):
    with Client(server.target, worker=server.target) as client:
        for promote in ("never", "never"):
            client.jobs.finetune("m@1.0", "0" * 64, name="pets", promote=promote).wait(30)
        models = client.models
        assert [each.version for each in models.list("pets@2")] == ["2"]
        assert models.describe("pets@2").model.version == "2"
        assert models.promote("pets@2").is_default
        assert models.get("pets@1").version == "1"
        models.delete("pets@1")
        assert [each.version for each in models.list("pets")] == ["2"]


@pytest.mark.parametrize(
    ("method", "words", "field"),
    [
        ("promote", ("pets",), "version"),
        ("delete", ("pets",), "version"),
        ("delete", ("pets@1", "2"), "version"),
        ("describe", ("pets@",), "model"),
        ("list", ("@1",), "model"),
    ],
)
def test_names_that_cannot_be(server, method, words, field):
    with Client(server.target, worker=server.target) as client, pytest.raises(InvalidArgument) as caught:
        getattr(client.models, method)(*words)
    assert caught.value.field == field
