"""A segmentation model in the real TorchServe, added by the command, asked over gRPC and REST."""

from __future__ import annotations

import io
import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from ouzel import models, serving
from ouzel.cli.models import models as command
from ouzel.serving import Ports, ServingOptions
from ouzel_client import Client, InvalidArgument, Pixel, Saliency, Within
from ouzel_client._cli import main, plugins
from support import segmenters
from support.segmenters import LABELS, SIZE

pytestmark = pytest.mark.e2e


def test_from_weights_to_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, weights, labels = tmp_path / "store", tmp_path / "w.safetensors", tmp_path / "labels.txt"
    save_file(segmenters.network().state_dict(), weights)
    labels.write_text("\n".join(LABELS))
    edge, path = str(SIZE), str(tmp_path / "shot.png")
    words = ["add", "shapes", "--task", "segmentation", "--arch", segmenters.ARCH, "--weights", str(weights)]
    words += ["--labels", str(labels), "--input-size", edge, edge, "--resize", edge, "--store", str(store)]
    added = CliRunner().invoke(command, words)
    assert added.exit_code == 0, added.output
    wrong = CliRunner().invoke(command, [*words[:3], "classification", *words[4:]])
    assert "its task is segmentation, not classification" in wrong.output
    shown = CliRunner().invoke(command, ["show", "shapes", "--store", str(store), "--json"])
    assert json.loads(shown.output)["task"] == "segmentation"
    shot = segmenters.picture(0)
    Image.fromarray(shot).save(tmp_path / "shot.png")
    model = models.load(store / "shapes.mar")
    x = model.preprocessing(Image.fromarray(shot))[None]
    best = model.network(x)[0].argmax(dim=0).numpy()
    options = ServingOptions(store=store, state=tmp_path / "state", ports=Ports.free(), workers=1)
    with serving.start(options) as running:
        with Client(target=running.grpc, token=running.inference_token, timeout=60) as client:
            target = Within(None, Pixel(5, 7))
            result = client.models["shapes"].explain(
                tmp_path / "shot.png", saliency=[Saliency("guided", target), Saliency("rise", target, masks=8)]
            )
            bad = Saliency("gradient", Within("goat", np.ones((5, 5), np.uint8)))
            with pytest.raises(InvalidArgument, match="the mask has 5 x 5 pixels, the image 128 x 128"):
                client.models["shapes"].explain(shot, saliency=bad)
        headers = {
            "Authorization": f"Bearer {running.inference_token}", "Content-Type": "image/png", "Accept": "image/png",
        }  # fmt: skip
        body = (tmp_path / "shot.png").read_bytes()
        request = urllib.request.Request(f"{running.rest}/predictions/shapes", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            picture = Image.open(io.BytesIO(answer.read()))
        monkeypatch.setenv("OUZEL_GRPC", running.grpc)
        monkeypatch.setenv("OUZEL_TOKEN", running.inference_token)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [])
        words = ["explain", path, "--model", "shapes", "--method", "grad_cam", "--box", "0,0,40,64"]
        told = CliRunner().invoke(main.main, [*words, "--out", str(tmp_path / "out")])
    seen = result.segmentation
    assert seen is not None
    assert (seen.label_map != best).mean() < 1e-3
    assert [one.target.index for one in result.saliency] == [seen.label_map[3, 2]] * 2
    assert result.saliency["guided"].rectified > 0
    assert picture.height > 2 * SIZE
    assert told.exit_code == 0, told.output
    assert "background" in told.output
    with np.load(tmp_path / "out" / "shot.npz") as arrays:
        assert arrays["label_map"].shape == (SIZE, SIZE)
        assert set(arrays["labels"].tolist()) <= set(LABELS)
    assert (tmp_path / "out" / "shot.classes.png").is_file()
