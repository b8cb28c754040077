"""A detector in the real TorchServe, added by the command, asked over gRPC, REST and the command line."""

from __future__ import annotations

import io
import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from ouzel import models, serving
from ouzel.cli.models import models as command
from ouzel.models.detection import candidates, in_image, select
from ouzel.serving import Ports, ServingOptions
from ouzel_client import Box, Client, FailedPrecondition, Rank, Saliency, When, Within
from ouzel_client._cli import main, plugins
from support import detectors
from support.detectors import EDGE, LABELS

pytestmark = pytest.mark.e2e


def test_from_weights_to_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, weights, labels = tmp_path / "store", tmp_path / "w.safetensors", tmp_path / "labels.txt"
    save_file(detectors.network().state_dict(), weights)
    labels.write_text("\n".join(LABELS))
    size = ["--input-size", str(EDGE), str(EDGE), "--resize", str(EDGE)]
    words = ["add", "finds", "--task", "detection", "--arch", detectors.ARCH, "--weights", str(weights)]
    words += ["--labels", str(labels), *size, "--store", str(store)]
    added = CliRunner().invoke(command, words)
    assert added.exit_code == 0, added.output
    shown = CliRunner().invoke(command, ["show", "finds", "--store", str(store), "--json"])
    assert json.loads(shown.output)["task"] == "detection"
    shot = detectors.picture(0)
    Image.fromarray(shot).save(tmp_path / "shot.png")
    model = models.load(store / "finds.mar")
    x = model.preprocessing(Image.fromarray(shot))[None]
    with torch.no_grad():
        (best,) = select(candidates(model.network(x), model.network, (EDGE, EDGE)), model.network.rules)
    options = ServingOptions(store=store, state=tmp_path / "state", ports=Ports.free(), workers=1)
    with serving.start(options) as running:
        with Client(target=running.grpc, token=running.inference_token, timeout=60) as client:
            asked = [
                Saliency("guided", Rank(0)),
                Saliency("d_rise", Within("goat", Box(10, 10, 90, 60)), masks=8),
            ]
            result = client.models["finds"].explain(tmp_path / "shot.png", saliency=asked, top_k=5)
            with pytest.raises(FailedPrecondition, match="'finds' is a detector; conditions need a classifier"):
                client.models["finds"].explain(tmp_path / "shot.png", when=When(labels=("goat",)))
        headers = {
            "Authorization": f"Bearer {running.inference_token}", "Content-Type": "image/png", "Accept": "image/png",
        }  # fmt: skip
        body = (tmp_path / "shot.png").read_bytes()
        request = urllib.request.Request(f"{running.rest}/predictions/finds", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            picture = Image.open(io.BytesIO(answer.read()))
        monkeypatch.setenv("OUZEL_GRPC", running.grpc)
        monkeypatch.setenv("OUZEL_TOKEN", running.inference_token)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [])
        words = ["explain", str(tmp_path / "shot.png"), "--model", "finds", "--method", "grad_cam", "--rank", "1"]
        told = CliRunner().invoke(main.main, [*words, "--top-k", "3", "--out", str(tmp_path / "out")])
    found = result.detected
    assert found is not None
    assert (len(found), found.found) == (5, len(best))
    expected = in_image(best.boxes[:5], (0, 0, shot.shape[1], shot.shape[0]), (EDGE, EDGE))
    mine = [(one.box.left, one.box.top, one.box.right, one.box.bottom) for one in found]
    np.testing.assert_allclose(mine, expected, atol=0.1)
    assert [one.index for one in found] == best.labels[:5].tolist()
    assert result.saliency["guided"].rectified > 0
    assert result.saliency["d_rise"].measures["similarity"] > 0
    assert picture.size == (shot.shape[1], shot.shape[0])
    assert told.exit_code == 0, told.output
    assert "3 of" in told.output
    with np.load(tmp_path / "out" / "shot.npz") as arrays:
        assert arrays["boxes"].shape == (3, 4)
        assert set(arrays["labels"].tolist()) <= set(LABELS)
    assert (tmp_path / "out" / "shot.boxes.png").is_file()
