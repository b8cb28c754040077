"""A model of 12 channels takes tensors, and is explained like any other; images are refused in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from ouzel import models
from ouzel.cli.models import models as command
from ouzel.explain import PNG, ExplainService, RawRequest
from ouzel.saliency import Explainer, Saliency
from ouzel_protos import tensors

from .test_given_images import png

OPTIONS = b'{"saliency": [{"method": "gradient", "reduction": "none"}, {"method": "grad_cam"}]}'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.Model:
    folder = tmp_path_factory.mktemp("channels")
    torch.manual_seed(0)
    save_file(models.build("timm:test_resnet", 2, 12).state_dict(), folder / "weights.safetensors")
    (folder / "labels.txt").write_text("field\nwood\n")
    given = f"--weights {folder}/weights.safetensors --labels {folder}/labels.txt --store {folder} --input-size 32 32"
    done = CliRunner().invoke(command, f"add bands --arch timm:test_resnet --channels 12 {given}")
    assert done.exit_code == 0, done.output
    return models.load(folder / "bands.mar")


def test_a_tensor_is_explained_like_in_the_library(model: models.Model) -> None:
    assert model.input_shape == (12, 32, 32)
    service = ExplainService(model)
    service.warm_up(2)
    x = np.random.default_rng(0).normal(size=(12, 32, 32)).astype(np.float32)
    body = tensors.encode(x).SerializeToString()
    drawn, answered = service.answer(
        [RawRequest(tensor=body, options=OPTIONS, media_type=PNG), RawRequest(tensor=body, options=OPTIONS)]
    )
    e = Explainer(model)(torch.from_numpy(x)[None], [Saliency("gradient", reduction="none"), Saliency("grad_cam")])
    for saliency, expected in zip(answered.envelope.saliency, e.maps, strict=True):
        assert np.allclose(tensors.decode(saliency.values), expected.values[0], atol=1e-5)
    assert len(answered.envelope.scores) == 2
    picture, media_type = drawn.render(PNG)
    assert (media_type, picture[:4]) == (PNG, b"\x89PNG")


@pytest.mark.parametrize("request_", [RawRequest(image=png(1)), RawRequest()])
def test_an_image_is_refused_in_words(model: models.Model, request_: RawRequest) -> None:
    (reply,) = ExplainService(model).answer([request_])
    assert reply.http == 400
    assert "(12, 32, 32)" in reply.envelope.error.message


def test_half_precision_that_does_not_reach_is_one_rows_error(model: models.Model) -> None:
    with torch.no_grad():
        network = torch.nn.Sequential(model.network, torch.nn.Linear(2, 2))
        network[1].weight.fill_(0).fill_diagonal_(1e9)
    loud = models.Model(**{**vars(model), "network": network.eval().requires_grad_(False)})
    body = tensors.encode(np.random.default_rng(1).normal(size=(12, 32, 32)).astype(np.float32)).SerializeToString()
    half = b'{"saliency": [{"method": "gradient", "dtype": "float16"}]}'
    bad, good = ExplainService(loud).answer(
        [RawRequest(tensor=body, options=half), RawRequest(tensor=body, options=OPTIONS)]
    )
    assert bad.envelope.error.field == "dtype"
    assert "float16 does not reach" in bad.envelope.error.message
    assert len(good.envelope.saliency) == 2
