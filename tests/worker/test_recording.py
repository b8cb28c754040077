"""What the worker does becomes entries of its log before callers hear of it, with proofs that anybody can check."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from ouzel.cli.ledger import ledger
from ouzel.ledger import VerifierKey, open_ledger, salted_hash, verify, verify_proof
from ouzel.ledger.published.places import open_storage
from ouzel.ledger.settings import settings
from ouzel.worker.api import audit_entries
from ouzel_client import Client, FailedPrecondition, NotFound
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1 import job_pb2
from ouzel_protos.v1.explain_pb2 import ClassRef
from support.jobs import Worker, until
from worker.test_audit_service import IMAGE, MASK, Site, audit, png, request

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def found(site: Site) -> Iterator[Worker]:
    with site.worker(real=True) as started:
        yield started


def key_of(site: Site) -> VerifierKey:
    return VerifierKey.parse((site.state / "ledger" / "tiles" / "vkey").read_text().strip())


def recorded(site: Site, kind: str) -> list[dict]:
    """The entries of a kind, by another process than the worker."""
    opened = open_ledger(settings(site.state / "ledger"), publish=False)
    try:
        opened.publish()
        return [json.loads(each.body or b"") for each in opened.entries(kind=kind)]
    finally:
        opened.close()


def test_an_audit_comes_with_a_proof_of_its_entry(site: Site, found: Worker, tmp_path: Path) -> None:
    answer = audit(found, request(site, request_id="case 7"))
    _, checkpoint = verify_proof(answer.ledger.proof, answer.ledger.entry, key_of(site))
    assert checkpoint.size > answer.ledger.index
    entry, salt = json.loads(answer.ledger.entry), answer.ledger.salt
    assert (entry["kind"], entry["facts"]["verdict"]) == ("audit", pb.Verdict.Name(answer.verdict).lower())
    assert entry["facts"]["source"]["digest"] == site.tiny.digest
    assert entry["facts"]["request"]["options"] == {"fills": ["blur", "mean"], "steps": 2, "random_orders": 1}
    image = hashlib.sha256(IMAGE).hexdigest()
    assert entry["salted"]["images"] == [salted_hash(salt, "images", image)]
    assert entry["salted"]["record"] == [salted_hash(salt, "record", hashlib.sha256(answer.record).hexdigest())]
    assert entry["salted"]["owner"] == [salted_hash(salt, "owner", "local")]
    for secret in (image, answer.record_sha256, "case 7"):
        assert secret.encode() not in answer.ledger.entry
    assert not verify(open_storage(site.state / "ledger" / "tiles"), key_of(site)).problems
    (tmp_path / "image.png").write_bytes(IMAGE)
    (tmp_path / "mask.png").write_bytes(png(np.where(MASK, 255, 0).astype(np.uint8)))
    words = ["replay", str(answer.ledger.index), "--image", str(tmp_path / "image.png"), "--state", str(site.state)]
    words += ["--store", str(site.store.folder)]
    assert "give the mask" in CliRunner().invoke(ledger, words).output
    again = CliRunner().invoke(ledger, [*words, "--mask", str(tmp_path / "mask.png")])
    assert "the same comes out again" in again.output, again.output


def test_texts_of_callers_about_their_own_models_are_not_published() -> None:
    texts = ["Jane Doe, ward 7", "jane@clinic.example", "for Dr Roe"]
    asked = pb.AuditPredictionRequest(claimed=ClassRef(label=f"label:{texts[0]}"))
    answer = pb.PredictionAudit(
        source=pb.AuditSource(kind=pb.AuditSource.CALLABLE, name=texts[1], version=texts[2]),
        agreement=pb.Agreement(claimed=pb.AuditScore(label=texts[0]), predicted=pb.AuditScore(label=texts[0])),
    )
    event = audit_entries.event(asked, answer, "alice")
    assert not [text for text in texts if text in json.dumps(event.facts)]
    assert event.salted["source"] == "jane@clinic.example@for Dr Roe"


def test_refusals_and_denials_are_recorded(site: Site, found: Worker) -> None:
    with pytest.raises(grpc.RpcError):
        audit(found, request(site, method="grad_camm"))
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as caught:
            audit(found, request(site), token="nobody's")
        assert caught.value.code() == Code.UNAUTHENTICATED
    (refusal,) = recorded(site, "refusal")[:1]
    assert refusal["facts"] == {"method": "AuditService/AuditPrediction", "code": "INVALID_ARGUMENT", "field": "method"}
    assert "grad_camm" not in json.dumps(refusal)

    def denied() -> int:
        calls = [each["facts"].get("calls", {}).get("UNAUTHENTICATED", {}) for each in recorded(site, "refusal")]
        return sum(each.get("/ouzel.v1.AuditService/AuditPrediction", 0) for each in calls)

    until(lambda: denied() == 3)
    with pytest.raises(grpc.RpcError) as caught:
        found.call("GetJob", job_pb2.GetJobRequest(id="none"))
    assert caught.value.code() == Code.NOT_FOUND
    counted = {"NOT_FOUND": {"/ouzel.v1.JobService/GetJob": 1}}
    until(lambda: counted in [each["facts"].get("calls") for each in recorded(site, "refusal")])


def test_deletions_and_promotions_are_recorded(site: Site, found: Worker) -> None:
    with Client(worker=found.address, worker_token=found.token) as client:
        client.datasets.delete(site.unmarked)
        with pytest.raises(NotFound):
            client.datasets.delete(site.unmarked)
        job = client.jobs.maximize("tiny", logit=0)
        with pytest.raises(FailedPrecondition):
            job.delete()
        assert [each["facts"]["what"] for each in recorded(site, "deletion")] == ["dataset"]
        job.cancel()
        until(lambda: job.refresh().done, 60)
        job.delete()
    assert [each["facts"]["what"] for each in recorded(site, "deletion")] == ["dataset", "job"]
    assert recorded(site, "deletion")[1]["facts"]["id"] == job.id


def test_a_data_set_that_an_audit_needs_is_not_deleted(site: Site, found: Worker) -> None:
    with Client(worker=found.address, worker_token=found.token) as client:
        first = client.jobs.maximize("tiny", logit=0)  # takes the one slot
        job = client.jobs.audit(site.dataset, model="tiny")
        with pytest.raises(FailedPrecondition, match="needs this data set"):
            client.datasets.delete(site.dataset)
        for each in (job, first):
            each.cancel()


def test_what_cannot_be_recorded_is_not_done(site: Site, found: Worker) -> None:
    """The last test of this worker: its log is damaged."""
    tiles = site.state / "ledger" / "tiles"
    (tiles / "checkpoint").write_bytes(b"nonsense\n")
    with Client(worker=found.address, worker_token=found.token) as client:
        with pytest.raises(grpc.RpcError) as caught:
            audit(found, request(site))
        assert caught.value.code() == Code.FAILED_PRECONDITION
        assert "the audit could not be recorded, so it is not done: the log is refused" in caught.value.details()
        with pytest.raises(FailedPrecondition, match="the deletion could not be recorded, so it is not done"):
            client.datasets.delete(site.dataset)
        assert site.dataset in [each.id for each in client.datasets.list()]


def test_a_worker_with_a_database_from_before_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site")
    backup = tmp_path / "backup"
    for name in ("first", "second"):
        with site.worker() as found:
            with pytest.raises(grpc.RpcError):
                audit(found, request(site, model=name))
            found.stop()
        if not backup.exists():
            shutil.copytree(site.state / "ledger", backup)
    for file in (site.state / "ledger").glob("ledger.db*"):
        file.unlink()
    for file in backup.glob("ledger.db*"):
        shutil.copy(file, site.state / "ledger")
    with pytest.raises(AssertionError, match="the database was rolled back"), site.worker():
        pass
