"""The client against the real TorchServe."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ouzel import saliency
from ouzel.models import Model
from ouzel.saliency import METHODS
from ouzel.serving import RunningServing
from ouzel_client import (
    AsyncClient,
    Client,
    Contrast,
    InvalidArgument,
    NotFound,
    Overloaded,
    Retry,
    Saliency,
    Top,
    Unauthenticated,
    Unavailable,
    When,
)

pytestmark = pytest.mark.e2e
MODEL = "efficientnet-lite0"


@pytest.fixture
def client(running: RunningServing) -> Iterator[Client]:
    with Client(target=running.grpc, token=running.inference_token, timeout=60) as client:
        yield client


def test_every_kind_of_image_gives_the_same(
    client: Client,
    running: RunningServing,
    chelsea: np.ndarray,
    chelsea_png: bytes,
    chelsea_probability: float,
    tmp_path: Path,
) -> None:
    path = tmp_path / "chelsea.png"
    path.write_bytes(chelsea_png)
    model = client.models[MODEL]
    inputs = (path, str(path), chelsea_png, Image.fromarray(chelsea), chelsea)
    answers = [model.explain(image, saliency=["guided", "grad_cam"], top_k=3) for image in inputs]
    for answer in answers:
        assert answer.labels == ("tiger cat", "Egyptian cat", "tabby")
        assert answer.scores[0] == pytest.approx(chelsea_probability, rel=1e-3)
        np.testing.assert_array_equal(answer.saliency["guided"].array, answers[0].saliency["guided"].array)
        assert answer.saliency["guided"].overlay().size == (451, 300)
    assert answers[0].saliency["guided"].rectified == 33

    async def alike() -> None:
        async with AsyncClient(target=running.grpc, token=running.inference_token) as twin:
            answer = await twin.models[MODEL].explain(path, saliency=["guided"])
            np.testing.assert_array_equal(answer.saliency["guided"].array, answers[0].saliency["guided"].array)

    asyncio.run(alike())


def test_targets_conditions_and_presentation(client: Client, chelsea: np.ndarray) -> None:
    model = client.models[MODEL]
    answer = model.explain(
        chelsea,
        saliency=[
            Saliency("gradient", target=Contrast("Egyptian cat", "tabby")),
            Saliency("guided", target="lynx", size="original", dtype="float16"),
            Saliency("grad_cam", layer="blocks.4", target=Top(2)),
            Saliency("gradient", target=7, reduction="none"),
        ],
    )
    contrast, lynx, first, second, seven = answer.saliency
    assert str(contrast.target) == "Egyptian cat - tabby"
    assert (lynx.array.shape, lynx.array.dtype) == ((300, 451), np.float16)
    assert lynx.overlay().size == (451, 300)
    assert (first.target.label, second.target.label) == ("tiger cat", "Egyptian cat")
    assert first.parameters["layer"] == "blocks.4"
    assert seven.array.shape == (3, 224, 224)
    assert seven.target.index == 7
    skipped = model.explain(chelsea, saliency=["guided"], when=When(score_below=0.1))
    assert "score_below" in skipped.skipped
    assert len(skipped.saliency) == 0
    estimate = model.estimate(chelsea, saliency=["guided", "grad_cam"])
    assert estimate.passes == 3


def test_every_method_travels(client: Client, lite0: Model, chelsea: np.ndarray) -> None:
    small = {"smoothgrad": {"samples": 2, "noise": 0.1}, "occlusion": {"window": 112, "stride": 56, "fill": "mean"}}
    small |= {"rise": {"masks": 4, "seed": 9}, "integrated_gradients": {"steps": 3, "baseline": "white"}}
    answer = client.models[MODEL].explain(
        chelsea, saliency=[Saliency(method, **small.get(method, {})) for method in METHODS], timeout=120
    )
    x = lite0.preprocessing(Image.fromarray(chelsea))[None]
    wishes = [saliency.Saliency(method, **small.get(method, {})) for method in METHODS]
    expected = saliency.Explainer(lite0)(x, wishes)
    assert answer.saliency.keys() == tuple(METHODS)
    for got, want in zip(answer.saliency, expected.maps, strict=True):
        # The two explainers may have settled on different memory formats: equal but for float32's ties.
        np.testing.assert_allclose(
            np.linalg.norm(got.array - want.values[0].numpy()), 0, atol=0.03 * want.values.norm()
        )
        for name, value in small.get(got.method, {}).items():
            assert got.parameters[name] == value
    assert answer.saliency["integrated_gradients"].measures["completeness_gap"] > 0


def test_a_given_baseline_travels(client: Client, lite0: Model, chelsea: np.ndarray, tmp_path: Path) -> None:
    blurred = Image.fromarray(chelsea).resize((30, 20)).resize((500, 400))
    path = tmp_path / "blurred.png"
    blurred.save(path)
    wishes = [Saliency("integrated_gradients", steps=3, baseline=image) for image in (path, blurred, np.array(blurred))]
    answer = client.models[MODEL].explain(chelsea, saliency=wishes, timeout=120)
    x, start = (lite0.preprocessing(image) for image in (Image.fromarray(chelsea), blurred))
    wish = saliency.Saliency("integrated_gradients", steps=3, baseline=start)
    expected = saliency.Explainer(lite0)(x[None], [wish]).maps[0].values[0].numpy()
    first, *others = answer.saliency
    assert np.linalg.norm(first.array - expected) <= 0.03 * np.linalg.norm(expected)
    assert first.parameters["baseline"].startswith("image sha256:")
    for other in others:
        np.testing.assert_array_equal(other.array, first.array)


def test_many_keep_their_order(client: Client, chelsea: np.ndarray) -> None:
    images = [np.roll(chelsea, 40 * i, axis=1) for i in range(12)]
    images[5] = np.zeros((4, 4, 3), np.uint8)
    results = list(client.models[MODEL].explain_many(images, saliency=["gradient"], in_flight=6, on_error="return"))
    assert isinstance(results[5], InvalidArgument)
    for index in (0, 4, 11):
        alone = client.models[MODEL].explain(images[index])
        assert results[index].labels == alone.labels
        np.testing.assert_allclose(results[index].logits, alone.logits, atol=1e-3)


def test_errors_are_of_one_tree(client: Client, running: RunningServing, chelsea: np.ndarray) -> None:
    with pytest.raises(NotFound, match="no-such-model"):
        client.models["no-such-model"].explain(chelsea)
    with pytest.raises(NotFound):
        client.models.get(MODEL, version="99").explain(chelsea)
    with pytest.raises(InvalidArgument, match="gided") as refused:
        client.models[MODEL].explain(chelsea, saliency=["gided"])
    assert refused.value.field == "saliency[0].method"
    with pytest.raises(InvalidArgument, match="image"):
        client.models[MODEL].explain(b"<html>")
    with Client(target=running.grpc, token="wrong") as stranger, pytest.raises(Unauthenticated):
        stranger.models[MODEL].explain(chelsea)


def test_a_worker_killed_in_mid_request(client: Client, running: RunningServing, chelsea: np.ndarray) -> None:
    """The call in flight ends as Unavailable; retried with patience, it succeeds on the new worker."""
    (worker,) = running.worker_pids()
    model = client.models[MODEL]
    buffer = io.BytesIO()
    Image.fromarray(chelsea).save(buffer, "PNG")

    options = {"retry": Retry(attempts=1), "timeout": 120}  # those in the queue wait for the new worker
    with Client(target=running.grpc, token=running.inference_token, **options) as impatient:
        results = impatient.models[MODEL].explain_many(
            [buffer.getvalue()] * 40, saliency=["gradient", "guided"], in_flight=16, on_error="return"
        )
        next(results)
        os.kill(worker, signal.SIGKILL)
        failed = [result for result in results if isinstance(result, Exception)]
    assert failed
    assert not [error for error in failed if not isinstance(error, Unavailable | Overloaded)]

    deadline = time.monotonic() + 90
    while True:
        try:
            assert model.explain(chelsea).labels[0] == "tiger cat"
            break
        except (Unavailable, Overloaded):
            assert time.monotonic() < deadline, "no new worker"
    assert running.worker_pids() != (worker,)
