"""Sheep on grass and goats on gravel: a network that tells them by the ground is convicted, by the real services.

The same animals on mixed grounds make a network that is acquitted.
"""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ouzel import models
from ouzel.audit import AnswerMaps, Claim, Pool, PredictionOptions, Scene, audit_prediction
from ouzel.endpoints.description.file import parse
from ouzel.endpoints.open import open_endpoint
from ouzel.models.store import ModelStore
from ouzel_client import Client, DatasetAuditResult, FinetuneResult, RecordedPrediction
from ouzel_protos.local import read_serving, token
from support import flock
from support.command import ouzel
from support.jobs import processes_of, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
BASE = "efficientnet-lite0"
LEARNT, MIXED = 60, 48  # images of each class; fewer leave a network that goes by the ground in doubt
# Audited images of each class; more are needed to show that a network is sound.
CONVICTED, SOME, ACQUITTED = 12, 6, 20
EDGE = 96  # pixels of the networks' inputs


@pytest.fixture
def client(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("OUZEL_STATE", environment["OUZEL_STATE"])
    with Client() as made:
        yield made


def tuned(client: Client, folder: Path, name: str, recipe: str, **parameters: int) -> FinetuneResult:
    job = client.jobs.finetune(
        BASE,
        client.datasets.upload(folder / "images"),
        name=name,
        recipe=recipe,
        image_size=EDGE,
        parameters=parameters,
    )
    result = job.result(400)
    assert isinstance(result, FinetuneResult)
    return result


def share(result: DatasetAuditResult, verdict: str) -> float:
    overall = result.summary["overall"]
    return overall["verdicts"].get(verdict, 0) / overall["images"]


def test_a_network_that_goes_by_the_grass_is_convicted(
    client: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    flock.write(tmp_path / "learnt", LEARNT, seed=0)
    flock.write(tmp_path / "audited", CONVICTED, seed=1)
    assert tuned(client, tmp_path / "learnt", "by-the-grass", "feature_extractor").accuracy == 1
    dataset = client.datasets.upload(tmp_path / "audited" / "images", masks=tmp_path / "audited" / "masks")
    assert dataset.masks == 2 * CONVICTED
    names = [(kind, f"{kind}/{n}.png") for kind in flock.KINDS for n in range(CONVICTED)]
    decided = [RecordedPrediction(name, kind, "the gate") for kind, name in names]
    job = client.jobs.audit(
        dataset,
        recorded=decided,
        model="by-the-grass",
        organisation="The farm",
        contact="farm@example.org",
        parameters={"cluster_pairs": 12, "suspects": 3},
    )
    until(lambda: job.refresh().progress.phase == "auditing" and job.progress.step >= 5, 300)
    for process in processes_of(job.id):
        process.kill()
    result = job.result(600)
    assert isinstance(result, DatasetAuditResult)
    assert job.refresh().attempt == 2
    assert (result.verdict, result.concern) == ("rests_on_background", True), result.reason
    assert share(result, "rests_on_background") >= 0.9
    links = {(each["label"], each["background"], each["becomes"]) for each in result.summary["links"]}
    assert {("sheep", "goat", "goat"), ("goat", "sheep", "sheep")} & links
    _check_files(environment, job.id, tmp_path / "out")


def _check_files(environment: dict[str, str], job: str, out: Path) -> None:
    """As an auditor does: with sha256sum and nothing of ours."""
    ouzel(environment, "jobs", "download", job, "--out", str(out))
    with zipfile.ZipFile(out / "bundle.zip") as bundle:
        bundle.extractall(out / "bundle")
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out / "bundle", capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    record = json.loads((out / "audit.json").read_bytes())
    assert record["evidence"]["overall"]["verdict"] == "rests_on_background"
    assert record["case"]["registered"] < record["case"]["audited"]
    assert (out / "report.html").read_text().count("<svg") + (out / "report.html").read_text().count("<img") > 0
    with zipfile.ZipFile(out / "decisions.zip") as decisions:
        assert len(decisions.namelist()) == 2 * CONVICTED
        assert b"The farm" in decisions.read(decisions.namelist()[0])


@pytest.mark.parametrize("images", [SOME, pytest.param(ACQUITTED, marks=pytest.mark.story)])
def test_one_that_learnt_on_mixed_grounds_is_acquitted(
    images: int, client: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    """Few images raise no concern; the acquittal takes more."""
    if not any(each.name == "by-the-animal" for each in client.models.list()):
        flock.write(tmp_path / "learnt", MIXED, seed=2, grounds=tuple(flock.GROUNDS))
        assert tuned(client, tmp_path / "learnt", "by-the-animal", "lp_ft", epochs=8).accuracy >= 0.9
    flock.write(tmp_path / "audited", images, seed=3, grounds=tuple(flock.GROUNDS))
    said = ouzel(
        environment,
        *("audit-dataset", str(tmp_path / "audited" / "images"), "--masks", str(tmp_path / "audited" / "masks")),
        *("--model", "by-the-animal", "--set", "clusters=false", "--json"),
    )
    summary = json.loads(said)["summary"]
    assert summary["concern"] is False, summary["reason"]
    assert summary["verdict"] == "rests_on_object" or images < ACQUITTED, summary["reason"]
    verdicts = summary["overall"]["verdicts"]
    assert summary["overall"]["images"] == 2 * images
    assert verdicts.get("rests_on_object", 0) >= 0.9 * summary["overall"]["images"]


def test_one_prediction_of_each(client: Client, tmp_path: Path) -> None:
    flock.write(tmp_path / "pool", 8, seed=4)
    pool = client.datasets.upload(tmp_path / "pool" / "images", masks=tmp_path / "pool" / "masks")
    expected = {"by-the-grass": "rests_on_background", "by-the-animal": "rests_on_object"}
    picture, mask = _called_a_sheep(client, *expected)
    for model, verdict in expected.items():
        audit = client.audit(picture, claimed="sheep", model=model, mask=mask, dataset=pool.id)
        assert audit.verdict == verdict, audit.reason


def _called_a_sheep(client: Client, *names: str) -> tuple[bytes, np.ndarray]:
    """The first of some sheep on grass that these models call so, with its mask: of a wrong answer nothing is asked."""
    for n in range(55, 60):
        picture, mask = flock.scene("sheep", "grass", (n,))
        out = io.BytesIO()
        picture.save(out, "PNG")
        if all(client.models[name].explain(out.getvalue()).labels[0] == "sheep" for name in names):
            return out.getvalue(), np.asarray(mask) > 127
    raise AssertionError("none of five sheep is called a sheep")


def test_a_served_model_is_audited_from_outside_to_the_same_verdict(
    client: Client, environment: dict[str, str], tmp_path: Path
) -> None:
    """TorchServe is asked as any other service, and no weights are read."""
    running = read_serving(Path(environment["OUZEL_STATE"]))
    assert running is not None
    (tmp_path / "token").write_text(token(running["key_file"], "inference"))
    scenes = []
    for number, kind in enumerate(flock.KINDS):
        for n in range(4):
            picture, mask = flock.scene(kind, flock.OWN[kind], (66, number, n))
            scenes.append(Scene(f"{kind}{n}", kind, np.asarray(picture), np.asarray(mask) > 127))
    picture, mask = flock.scene("sheep", "grass", (67,))
    claim, pool = Claim("sheep", np.asarray(mask) > 127), Pool(scenes)
    for model, expected in (("by-the-grass", "rests_on_background"), ("by-the-animal", "rests_on_object")):
        stored = models.load(ModelStore(environment["OUZEL_MODEL_STORE"]).file(model).path)
        edge = stored.preprocessing.resize  # of this size, the service resizes nothing, and crops the centre
        text = (
            f'[theirs]\nurl = "{running["rest"]}/predictions/{model}"\nhandler = "ouzel"\n'
            f'bearer_token = {{ file = "token" }}\nrequests_per_second = 1000\n'
            f"size = [{edge}, {edge}]\nresize = {edge}\n"
        )
        with open_endpoint(parse(text, tmp_path)["theirs"]) as asked:
            evidence = audit_prediction(asked, AnswerMaps(asked), picture, claim, PredictionOptions(steps=0), pool=pool)
        assert evidence.verdict == expected, evidence.reason
        assert evidence.source.digest == stored.digest
