"""A detector and a segmentation model in the real TorchServe: added by the command, asked in all ways."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

from e2e.conftest import Wire
from ouzel import models, serving
from ouzel.cli.models import models as command
from ouzel.models.detection import candidates, in_image, select
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel_client import Box, Client, FailedPrecondition, InvalidArgument, Pixel, Rank, Saliency, When, Within
from ouzel_client._cli import main, plugins
from support import detectors, segmenters

pytestmark = pytest.mark.e2e
NAMES = {"detection": "finds", "segmentation": "shapes"}
EDGES = {"detection": detectors.EDGE, "segmentation": segmenters.SIZE}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    for task, made in (("detection", detectors), ("segmentation", segmenters)):
        weights, labels = folder / f"{task}.safetensors", folder / f"{task}.txt"
        save_file(made.network().state_dict(), weights)
        labels.write_text("\n".join(made.LABELS))
        edge = str(EDGES[task])
        words = ["add", NAMES[task], "--task", task, "--arch", made.ARCH, "--weights", str(weights)]
        words += [
            "--labels",
            str(labels),
            "--input-size",
            edge,
            edge,
            "--resize",
            edge,
            "--store",
            str(folder / "store"),
        ]
        added = CliRunner().invoke(command, words)
        assert added.exit_code == 0, added.output
        wrong = CliRunner().invoke(command, [*words[:3], "classification", *words[4:]])
        assert f"its task is {task}, not classification" in wrong.output
    return folder / "store"


@pytest.fixture(scope="module")
def running(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServing]:
    """One TorchServe with both."""
    options = ServingOptions(store=store, state=tmp_path_factory.mktemp("state"), ports=Ports.free(), workers=1)
    with serving.start(options) as running:
        yield running


@pytest.fixture
def client(running: RunningServing) -> Iterator[Client]:
    with Client(target=running.grpc, token=running.inference_token, timeout=60) as client:
        yield client


def pixels_of(model: models.Model, shot: np.ndarray) -> torch.Tensor:
    return model.preprocessing(Image.fromarray(shot))[None]


def shown(store: Path, task: str) -> Mapping[str, Any]:
    return json.loads(CliRunner().invoke(command, ["show", NAMES[task], "--store", str(store), "--json"]).output)


def picture(running: RunningServing, task: str, file: Path) -> Image.Image:
    """What REST answers to who accepts PNG."""
    wire = Wire(running)
    try:
        status, kind, body = wire.rest(file.read_bytes(), accept="image/png", path=f"/predictions/{NAMES[task]}")
    finally:
        wire.close()
    assert (status, kind) == (200, "image/png"), body
    return Image.open(io.BytesIO(body))


def told(monkeypatch: pytest.MonkeyPatch, running: RunningServing, task: str, file: Path, *words: str) -> Result:
    """What the command says, and writes beside the file."""
    monkeypatch.setenv("OUZEL_GRPC", running.grpc)
    monkeypatch.setenv("OUZEL_TOKEN", running.inference_token)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    words = ("explain", str(file), "--model", NAMES[task], "--method", "grad_cam", *words)
    result = CliRunner().invoke(main.main, [*words, "--out", str(file.parent / "out")])
    assert result.exit_code == 0, result.output
    return result


def test_boxes(
    running: RunningServing, client: Client, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, file, shot = "detection", tmp_path / "shot.png", detectors.picture(0)
    Image.fromarray(shot).save(file)
    assert shown(store, task)["task"] == task
    model = models.load(store / "finds.mar")
    with torch.no_grad():
        answer = candidates(model.network(pixels_of(model, shot)), model.network, (detectors.EDGE,) * 2)
        (best,) = select(answer, model.network.rules)
    asked = [Saliency("guided", Rank(0)), Saliency("d_rise", Within("goat", Box(10, 10, 90, 60)), masks=8)]
    result = client.models["finds"].explain(file, saliency=asked, top_k=5)
    with pytest.raises(FailedPrecondition, match="'finds' is a detector; conditions need a classifier"):
        client.models["finds"].explain(file, when=When(labels=("goat",)))
    found = result.detected
    assert found is not None
    assert (len(found), found.found) == (5, len(best))
    expected = in_image(best.boxes[:5], (0, 0, shot.shape[1], shot.shape[0]), (detectors.EDGE,) * 2)
    mine = [(one.box.left, one.box.top, one.box.right, one.box.bottom) for one in found]
    np.testing.assert_allclose(mine, expected, atol=0.1)
    assert [one.index for one in found] == best.labels[:5].tolist()
    assert result.saliency["guided"].rectified > 0
    assert result.saliency["d_rise"].measures["similarity"] > 0
    assert picture(running, task, file).size == (shot.shape[1], shot.shape[0])
    assert "3 of" in told(monkeypatch, running, task, file, "--rank", "1", "--top-k", "3").output
    with np.load(tmp_path / "out" / "shot.npz") as arrays:
        assert arrays["boxes"].shape == (3, 4)
        assert set(arrays["labels"].tolist()) <= set(detectors.LABELS)
    assert (tmp_path / "out" / "shot.boxes.png").is_file()


def test_maps_of_classes(
    running: RunningServing, client: Client, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, file, shot = "segmentation", tmp_path / "shot.png", segmenters.picture(0)
    Image.fromarray(shot).save(file)
    assert shown(store, task)["task"] == task
    model = models.load(store / "shapes.mar")
    best = model.network(pixels_of(model, shot))[0].argmax(dim=0).numpy()
    target = Within(None, Pixel(5, 7))
    asked = [Saliency("guided", target), Saliency("rise", target, masks=8)]
    result = client.models["shapes"].explain(file, saliency=asked)
    bad = Saliency("gradient", Within("goat", np.ones((5, 5), np.uint8)))
    with pytest.raises(InvalidArgument, match="the mask has 5 x 5 pixels, the image 128 x 128"):
        client.models["shapes"].explain(shot, saliency=bad)
    seen = result.segmentation
    assert seen is not None
    assert (seen.label_map != best).mean() < 1e-3
    assert [one.target.index for one in result.saliency] == [seen.label_map[3, 2]] * 2
    assert result.saliency["guided"].rectified > 0
    assert picture(running, task, file).height > 2 * segmenters.SIZE
    assert "background" in told(monkeypatch, running, task, file, "--box", "0,0,40,64").output
    with np.load(tmp_path / "out" / "shot.npz") as arrays:
        assert arrays["label_map"].shape == (segmenters.SIZE,) * 2
        assert set(arrays["labels"].tolist()) <= set(segmenters.LABELS)
    assert (tmp_path / "out" / "shot.classes.png").is_file()
