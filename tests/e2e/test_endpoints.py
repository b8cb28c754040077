"""Models of the real TorchServe as endpoints: those of Ouzel, and those of TorchServe's own image classifier."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import SqueezeNet

from ouzel.audit.predictor import ModelPredictor
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.file import parse, parse_flag
from ouzel.endpoints.description.secrets import Secret
from ouzel.endpoints.open import open_endpoint
from ouzel.errors import FailedPrecondition
from ouzel.models import Model
from ouzel.serving import RunningServing
from ouzel.torchserve import management
from ouzel.torchserve.server import Server

pytestmark = pytest.mark.e2e
MODEL = "efficientnet-lite0"


@pytest.fixture(scope="module")
def pictures(chelsea: np.ndarray) -> np.ndarray:
    """(3, 256, 256, 3) uint8: a photograph, and parts of it. Both handlers crop the centre and resize nothing."""
    image = Image.fromarray(chelsea)
    boxes = ((0, 0, 451, 300), (75, 0, 375, 300), (100, 50, 250, 200))
    return np.stack([np.asarray(image.resize((256, 256), box=box)) for box in boxes])


@pytest.fixture
def endpoint(running: RunningServing, tmp_path: Path) -> Callable[..., Endpoint]:
    (tmp_path / "token").write_text(running.inference_token)

    def read(model: str, more: str) -> Endpoint:
        head = f'[photos]\nurl = "{running.rest}/predictions/{model}"\nbearer_token = {{ file = "token" }}\n'
        return parse(f"{head}requests_per_second = 1000\nsize = [256, 256]\nresize = 256\n{more}", tmp_path)["photos"]

    return read


def test_a_model_of_another_ouzel(endpoint, lite0: Model, pictures) -> None:
    expected = ModelPredictor(lite0)(pictures[:, 16:240, 16:240])
    with open_endpoint(endpoint(MODEL, 'handler = "ouzel"')) as asked:
        np.testing.assert_allclose(asked(pictures), expected, atol=1e-4)
        assert asked.labels == lite0.labels
        assert (asked.source.version, asked.source.digest) == (lite0.version, lite0.digest)
    labels = json.dumps(lite0.labels)
    with open_endpoint(endpoint(MODEL, f'handler = "ouzel"\nlabels = {labels}')) as asked:
        np.testing.assert_allclose(asked(pictures[:1]), expected[:1], atol=1e-4)


def test_name_and_url_are_enough(running: RunningServing, lite0: Model, pictures) -> None:
    """Whatever needs no token: with one, the file has to say so."""
    read = parse_flag(f"photos={running.rest}/predictions/{MODEL}")
    with pytest.raises(FailedPrecondition, match=r"endpoint 'photos': .* does not accept the operator's credentials"):
        open_endpoint(read)
    headers = (("Authorization", Secret(literal=f"Bearer {running.inference_token}")),)
    with open_endpoint(Endpoint(**{**vars(read), "headers": headers})) as asked:
        assert asked.labels == lite0.labels
        best = asked(pictures[:1])[0]
        assert lite0.labels[best.argmax()] == lite0.labels[ModelPredictor(lite0)(pictures[:1, 16:240, 16:240]).argmax()]
        assert asked.view.size is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('labels = ["a", "b"]', "another Ouzel answers"),
        ('handler = "ouzel"\nlabels = ["a", "b"]', "does not hold one score for each of 2 classes"),
        ('handler = "ouzel"\nversion = "9"', r"answered 404"),
    ],
)
def test_descriptions_that_do_not_fit(endpoint, pictures, more, message) -> None:
    with pytest.raises(FailedPrecondition, match=message), open_endpoint(endpoint(MODEL, more)) as asked:
        asked(pictures)


def test_labels_in_another_order(endpoint, lite0: Model) -> None:
    labels = list(lite0.labels)
    labels[3], labels[4] = labels[4], labels[3]
    with pytest.raises(FailedPrecondition, match=r"labels\[\d\] is .* here, and another at the service"):
        open_endpoint(endpoint(MODEL, f'handler = "ouzel"\nlabels = {json.dumps(labels)}'))


SQUEEZENET = """
from torchvision.models import squeezenet


class Toy(squeezenet.SqueezeNet):
    def __init__(self):
        super().__init__("1_1", num_classes=7)
"""
LABELS = ["ant", "bee", "crane", "dog", "eel", "fly", "gnu"]


@pytest.fixture(scope="module")
def squeezenet(running: RunningServing, lite0_store: Path) -> Iterator[SqueezeNet]:
    """A network with random weights, served by TorchServe's own image classifier."""
    torch.manual_seed(0)
    network = SqueezeNet("1_1", num_classes=7).eval()
    with torch.no_grad():
        network.classifier[1].weight *= 40
    weights = io.BytesIO()
    torch.save(network.state_dict(), weights)
    described = {"modelName": "squeezenet", "modelVersion": "1", "handler": "image_classifier"}
    manifest = {"runtime": "python", "model": described | {"modelFile": "toy.py", "serializedFile": "weights.pt"}}
    path = lite0_store / "squeezenet.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("toy.py", SQUEEZENET)
        archive.writestr("weights.pt", weights.getvalue())
        archive.writestr("index_to_name.json", json.dumps({str(index): label for index, label in enumerate(LABELS)}))
    server = Server(running.rest, running.management, running.key_file, running.log)
    management.register(server, "squeezenet", "1", path.name)
    yield network
    management.unregister(server, "squeezenet", "1")
    path.unlink()


def test_a_model_of_the_image_classifier(endpoint, squeezenet: SqueezeNet, pictures) -> None:
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    with torch.no_grad():
        x = torch.stack([prepare(Image.fromarray(picture)) for picture in pictures])
        whole = squeezenet(x).double().softmax(dim=1).numpy()
    fifth = np.sort(whole, axis=1)[:, -5:-4]  # it tells the best five
    with open_endpoint(endpoint("squeezenet", f"labels = {json.dumps(LABELS)}")) as asked:
        np.testing.assert_allclose(asked(pictures), np.where(whole >= fifth, whole, 0), atol=1e-5)
    best = LABELS[whole[0].argmax()]
    renamed = json.dumps(["zebu" if label == best else label for label in LABELS])
    wanted = pytest.raises(FailedPrecondition, match=f"label '{best}', which is not among")
    with open_endpoint(endpoint("squeezenet", f"labels = {renamed}")) as asked, wanted:
        asked(pictures)
    with pytest.raises(FailedPrecondition, match="describe this endpoint in the file"):
        open_endpoint(endpoint("squeezenet", 'handler = "ouzel"'))
