"""A real worker with a real model audits the pairs of a real sink."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ouzel import images, models
from ouzel.audit import ModelPredictor
from ouzel.models import archive
from support.jobs import worker
from support.looking import look
from support.sink import LABELS, png, request_body, response_body, sink, write
from support.tuned import ARCH

SERVICE = """
rate = 1.0
[services.farm.margins]
images = 0
"""


@pytest.mark.timeout(240)
def test_a_model_of_the_store_is_what_is_asked(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(models.build(ARCH, num_classes=3).state_dict(), tmp_path / "tiny.safetensors")
    archive.create("tiny", ARCH, tmp_path / "tiny.safetensors", LABELS, tmp_path / "store")
    predictor = ModelPredictor(models.load(tmp_path / "store" / "tiny.mar"))
    image = png(96, seed=3)
    scores = predictor(predictor.view.picture(images.decode(image))[None])[0]
    true, wrong = int(np.argmax(scores)), int(np.argmin(scores))
    state = tmp_path / "worker"
    look(tmp_path / "store", state)
    with worker(f"sqlite://{state / 'jobs.db'}", state, "--store", str(tmp_path / "store")) as asked:
        file = write(tmp_path / "sink", SERVICE)
        own = f'[sink]\nworker = "{asked.address}"\nworker_token = {{ file = "{state / "jobs" / "token"}" }}'
        text = file.read_text().replace('audit = { endpoint = "farm" }', 'audit = { model = "tiny" }')
        file.write_text(text.replace("[sink]", own, 1))
        with sink(file) as found:
            for identity, label in (("right", true), ("wrong", wrong)):
                said = response_body([0.8 if index == label else 0.1 for index in range(3)])
                found.pair(identity, request=request_body(image, [[20, 20, 70, 70]]), response=said)
            found.pair("no-image", request=request_body(b"GIF89a"))
            ended = found.wait(lambda each: not each["outcomes"]["queued"], 200)
            assert (ended["outcomes"]["audited"], ended["outcomes"]["failed"]) == (4, 2)
            assert any("image" in each for each in ended["failures"])
            report = json.loads(found.ask("GET", "/report")[1])["services"]["farm"]
    overall = report["random"]["overall"]
    assert (overall["images"], overall["refused"], overall["without_region"]) == (3, 1, 0)
    assert (overall["agreement"]["count"], overall["agreement"]["of"]) == (1, 2)
    assert overall["background"]["test"]["pairs"] == 1
    (source,) = report["random"]["sources"]
    assert (source["kind"], source["name"], source["pairs"]) == ("model", "tiny", 2)
    assert source["digest"].startswith("sha256:")
