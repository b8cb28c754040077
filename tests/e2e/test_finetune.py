"""From a folder of images to an explainable model in production, with the real services; the job killed on its way."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ouzel import models
from ouzel.models.store import ModelStore
from ouzel.saliency.boxes import DetectionExplainer
from ouzel_client import Box, Client, ModelInfo, OuzelError, PublicationEvent, Saliency, Within
from ouzel_client._sync._job import Job
from support import boxed, masked
from support.command import ouzel
from support.digits import digits as mnist
from support.jobs import processes_of, until

pytestmark = pytest.mark.e2e
BASE = "efficientnet-lite0"
DIGITS = (0, 1, 7)


def digits(folder: Path, images: int) -> dict[int, list[bytes]]:
    """Written as LABEL/FILE; returns others of each class, which are not among them."""
    pixels, classes = mnist()
    others: dict[int, list[bytes]] = {}
    for label in DIGITS:
        (folder / f"digit {label}").mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(classes == label)[: images + 5]):
            out = io.BytesIO()
            Image.fromarray(pixels[row].reshape(28, 28)).save(out, "PNG")
            if number < images:
                (folder / f"digit {label}" / f"{row}.png").write_bytes(out.getvalue())
            else:
                others.setdefault(label, []).append(out.getvalue())
    return others


def right(client: Client, model: str, others: dict[int, list[bytes]]) -> float:
    predicted = [
        client.models[model].explain(image).labels[0] == f"digit {label}"
        for label, images in others.items()
        for image in images
    ]
    return sum(predicted) / len(predicted)


def test_from_a_folder_to_production(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = digits(tmp_path / "digits", 24)
    monkeypatch.setenv("OUZEL_STATE", environment["OUZEL_STATE"])
    store = ModelStore(environment["OUZEL_MODEL_STORE"])
    with Client() as client:
        dataset = client.datasets.upload(tmp_path / "digits")
        assert client.jobs.check_finetune(BASE, dataset, name="digits")["usable"] is True
        job = client.jobs.finetune(
            BASE, dataset, name="digits", recipe="feature_extractor", image_size=96, promote="if_better"
        )
        until(lambda: job.refresh().progress.phase in ("computing features", "head", "reporting"), 90)
        for process in processes_of(job.id):
            process.kill()
        summary = job.result(180).summary
        assert job.refresh().attempt == 2
        assert (summary["model"], summary["version"], summary["served"], summary["promoted"]) == (
            "digits",
            "1",
            True,
            True,
        )
        assert [entry.version for entry in store.versions("digits")] == ["1"]
        # It answers at once, with all its explanations.
        assert right(client, "digits", others) >= 0.8
        explained = client.models["digits"].explain(others[7][0], saliency=["gradient", "guided", "grad_cam"])
        assert explained.model.name == "digits"
        assert all(np.abs(explained.saliency[name].array).max() > 0 for name in ("gradient", "guided", "grad_cam"))
        assert client.models.list("digits")[0].lineage["dataset"] == dataset.id
        second = _second_version(client, job, others)
        assert second.result(180).summary["promoted"] is False
        _promoted_under_load(client, others)
        said = ouzel(environment, "models", "promote", "digits", "--version", "1")
        assert "1" in said
        assert client.models["digits"].explain(others[0][0]).model.version == "1"
        assert client.models["digits@2"].explain(others[0][0]).model.version == "2"
        _pixels_too(client, store, tmp_path)
        _boxes_too(client, store, tmp_path)


def _pixels_too(client: Client, store: ModelStore, folder: Path) -> None:
    """From a folder with label maps to a segmentation model that is served and explained: first the decoder alone."""
    for name, content in masked.files(12).items():
        (folder / "shapes" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "shapes" / name).write_bytes(content)
    dataset = client.datasets.upload_masked(folder / "shapes")
    parameters = {"frozen_epochs": 1, "epochs": 8, "batch_size": 4}
    options = {"recipe": "segment", "image_size": 64, "promote": "if_better", "early": True, "parameters": parameters}
    job = client.jobs.finetune(BASE, dataset, name="shapes", **options)
    first = next(event for event in job.events() if isinstance(event, PublicationEvent))
    assert (first.version, first.number, first.promoted, first.served) == ("1", 1, True, True)
    _explained_as_stored(client, store, "shapes@1")
    result = job.result(180)
    assert result.early is not None
    assert (result.early.first.version, result.early.first.served) == ("1", True)
    assert result.early.better, "the test needs a training that learns"
    assert (result.version, result.promoted, result.served) == ("2", True, True)
    assert result.miou is not None
    assert result.interval[0] <= result.miou <= result.interval[1]
    assert result.miou > result.early.first.accuracy
    assert _explained_as_stored(client, store, "shapes").version == "2"
    assert _explained_as_stored(client, store, "shapes@1").version == "1"


def _explained_as_stored(client: Client, store: ModelStore, reference: str) -> ModelInfo:
    """The label map is that of the archive."""
    image = masked.png(masked.scene(99)[0])
    explained = client.models[reference].explain(image, saliency=["guided", "grad_cam"])
    assert explained.segmentation is not None
    model = models.load(store.find(reference))
    expected = model.network(model.preprocessing(models.decode(image))[None])[0].argmax(0).numpy()
    assert (explained.segmentation.label_map != expected).mean() < 1e-2
    assert np.abs(explained.saliency["guided"].array).max() > 0
    return explained.model


def _boxes_too(client: Client, store: ModelStore, folder: Path) -> None:
    """From a folder with boxes to a detector that is served and explained; the job is killed on its way."""
    dataset = client.datasets.upload_boxed(boxed.write(folder / "street"))
    assert client.datasets.check(dataset.id).usable
    parameters = {"frozen_epochs": 2, "epochs": 1, "batch_size": 4}
    job = client.jobs.finetune(BASE, dataset, name="street", recipe="detect", image_size=96, parameters=parameters)
    until(lambda: job.refresh().progress.phase in ("training", "validating", "reporting"), 90)
    for process in processes_of(job.id):
        process.kill()
    result = job.result(180)
    assert (result.version, result.served, job.refresh().attempt) == ("1", True, 2)
    assert result.map is not None
    assert result.interval[0] <= result.map <= result.interval[1]
    image = (folder / "street" / "images" / "001.png").read_bytes()
    given = Saliency("d_rise", Within("disc", Box(5, 5, 60, 60)), masks=8)
    explained = client.models["street"].explain(image, saliency=given, top_k=5)
    model = models.load(store.find("street"))
    (expected,) = DetectionExplainer(model)(model.preprocessing(models.decode(image))[None], []).detections
    assert explained.detected is not None
    assert explained.detected.found == pytest.approx(len(expected), abs=2)
    assert [each.score for each in explained.detected] == pytest.approx(expected.scores[:5].tolist(), abs=1e-3)
    assert explained.saliency[0].target.label == "disc"
    assert np.abs(explained.saliency[0].array).max() > 0


def _second_version(client: Client, first: Job, others: dict[int, list[bytes]]) -> Job:
    """Killed while it publishes: the same images once more, from the tuned model."""
    dataset = first._message.spec.finetune.dataset
    job = client.jobs.finetune("digits", dataset, name="digits", recipe="feature_extractor", promote="never")
    until(lambda: job.refresh().progress.phase == "publishing" or job.state == "SUCCEEDED", 120)
    for process in processes_of(job.id):
        process.kill()
    job.result(180)
    assert [each.version for each in client.models.list("digits")] == ["1", "2"]
    assert all(each.served for each in client.models.list("digits"))
    assert client.models["digits"].explain(others[0][0]).model.version == "1"
    return job


def _promoted_under_load(client: Client, others: dict[int, list[bytes]]) -> None:
    """Four callers go on while the default changes; none of their calls fails, and each gets one of the two."""
    done, failures, versions = threading.Event(), [], []

    def ask() -> None:
        while not done.is_set():
            try:
                versions.append(client.models["digits"].explain(others[1][0]).model.version)
            except OuzelError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for version in ("2", "1", "2"):
            before = len(versions)
            until(lambda before=before: len(versions) > before + 8, 60)
            assert client.models.promote("digits", version).is_default
        before = len(versions)
        until(lambda: len(versions) > before + 8, 60)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert set(versions) == {"1", "2"}
    assert client.models["digits"].explain(others[1][0]).model.version == "2"
