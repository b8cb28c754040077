"""Links to the files of a job, which lie in a real bucket."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest

from ouzel_client import Client
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import count, worker

OTHER = "token-of-the-other-owner-1234567890"


def listed(running: Any, job: str, links: bool = True, token: str | None = None) -> list[pb.Artifact]:
    request = pb.ListArtifactsRequest(id=job, links=links)
    return list(running.call("ListArtifacts", request, token).artifacts)


def test_links_are_for_the_owner_who_asks(bucket: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"other {OTHER}\n")
    store = f"sqlite://{tmp_path / 'jobs.db'}"
    options = ("--tokens", str(tokens), "--artifact-links", "120")
    with worker(store, tmp_path / "state", *options, artifacts=bucket) as running:
        job = running.result(running.create(count(2)).id)
        assert not any(each.url or each.HasField("url_expire_time") for each in job.result.artifacts)
        assert not any(each.url for each in listed(running, job.id, links=False))
        before = time.time()
        (artifact,) = listed(running, job.id)
        assert before + 119 < artifact.url_expire_time.ToNanoseconds() / 1e9 < time.time() + 121
        with urllib.request.urlopen(artifact.url, timeout=30) as answer:
            assert answer.read() == b"m counted to 2"
        with pytest.raises(grpc.RpcError) as refused:
            listed(running, job.id, token=OTHER)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with Client(worker=running.address, worker_token=running.token) as client:
            handle = client.jobs.get(job.id)
            (plain,), (linked,) = handle.artifacts(), handle.artifacts(links=True)
        assert (plain.url, plain.url_expires) == (None, None)
        assert linked.url is not None
        assert linked.url not in repr(linked)
        assert linked.sha256 == artifact.sha256
        assert running.stop() == 0


def test_a_folder_has_no_links(tmp_path: Path) -> None:
    with worker(f"sqlite://{tmp_path / 'jobs.db'}", tmp_path / "state") as running:
        job = running.result(running.create(count(2)).id)
        (artifact,) = listed(running, job.id)
        assert not artifact.url
        assert running.stop() == 0
