"""The same network behind each kind of endpoint answers as it does here."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ouzel.audit.predictor import Source
from ouzel.endpoints.open import open_endpoint
from ouzel.errors import FailedPrecondition
from support import http_services, oip
from support.endpoints import FP32, LABELS, UINT8, normalised, softmax


@pytest.mark.parametrize("transfer", ["json", "binary"])
def test_oip_over_rest(endpoint, logits, pictures, expected, transfer) -> None:
    model = oip.OipModel(logits)
    with oip.rest(model) as url:
        read = endpoint(f"{url}/v2/models/toy", FP32, head=f'transfer = "{transfer}"\nbatch = 3')
        with open_endpoint(read) as asked:
            np.testing.assert_allclose(asked(pictures), expected, atol=1e-5)
            assert asked.source == Source("endpoint", "toy", "3", "")
            assert asked.labels == LABELS
    assert sorted(shape[0] for shape in model.asked) == [1, 3, 3]
    assert ("inference-header-content-length" in model.headers) == (transfer == "binary")


@pytest.mark.parametrize("raw", [True, False])
def test_oip_over_grpc(endpoint, logits, pictures, expected, raw) -> None:
    model = oip.OipModel(logits, raw=raw)
    with oip.over_grpc(model) as url:
        read = endpoint(url, FP32, head='kind = "oip"\nmodel = "toy"\nheaders = { X-Key = "k" }')
        with open_endpoint(read) as asked:
            np.testing.assert_allclose(asked(pictures), expected, atol=1e-5)
            assert asked.source == Source("endpoint", "toy", "3", "")
    assert model.headers["x-key"] == "k"


@pytest.mark.parametrize("kind", ["FP16", "FP64"])
@pytest.mark.parametrize("transfer", ["json", "binary"])
def test_services_that_normalise_themselves(endpoint, logits, pictures, expected, kind, transfer) -> None:
    model = oip.OipModel(
        lambda values: softmax(logits(normalised(values))),
        input=("image", "UINT8", [-1, 64, 64, 3]),
        output=("p", kind, [-1, -1]),
    )
    with oip.rest(model) as url:
        read = endpoint(f"{url}/base/v2/models/toy/versions/3", UINT8, head=f'transfer = "{transfer}"')
        with open_endpoint(read) as asked:
            np.testing.assert_allclose(asked(pictures), expected, atol=1e-5 if kind == "FP64" else 1e-3)


def test_the_order_of_colours_is_stated(endpoint, logits, pictures, expected) -> None:
    model = oip.OipModel(
        lambda values: softmax(logits(normalised(values[..., ::-1]))), input=("image", "UINT8", [-1, 64, 64, 3])
    )
    with oip.rest(model) as url:
        text = UINT8.replace("datatype", 'channels = "BGR"\ndatatype')
        with open_endpoint(endpoint(f"{url}/v2/models/toy", text)) as asked:
            np.testing.assert_allclose(asked(pictures), expected, atol=1e-5)


@pytest.mark.parametrize("served", [-1, 1])
def test_a_service_that_takes_one_picture_gets_one(endpoint, logits, pictures, expected, served) -> None:
    model = oip.OipModel(logits, input=("pixels", "FP32", [served, 3, 64, 64]))
    with oip.rest(model) as url, open_endpoint(endpoint(f"{url}/v2/models/toy", FP32)) as asked:
        np.testing.assert_allclose(asked(pictures), expected, atol=1e-5)
    assert [shape[0] for shape in model.asked] == ([7] if served < 0 else [1] * 7)


ANSWERS = {
    "array": 'form = "array"\npath = "predictions[0].scores"\n',
    "mapping": 'form = "mapping"\n',
    "list": 'form = "list"\npath = "result"\nlabel_key = "name"\nscore_key = "p"\n',
}
REQUESTS = {
    "body": 'image = "body"\n',
    "form": 'image = "multipart"\nfield = "file"\nbody = { top = "all" }\n',
    "json": """image = "json"
path = "instances[0].image"
prefix = "data:image/png;base64,"
body = { top = 3, instances = [{ format = "png" }] }
""",
}


@pytest.mark.parametrize(
    ("request_", "answer"),
    [("body", "array"), ("body", "mapping"), ("body", "list"), ("form", "list"), ("json", "array")],
)
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_http_with_json(endpoint, logits, pictures, expected, request_, answer, scores) -> None:
    def predict(picture: np.ndarray) -> list[float]:
        values = logits(normalised(picture[None]))
        return (values if scores == "logits" else softmax(values))[0].tolist()

    with http_services.classifier(predict, LABELS) as url:
        text = f'[toy.input]\n{REQUESTS[request_]}[toy.output]\nscores = "{scores}"\n{ANSWERS[answer]}'
        read = endpoint(f"{url}/{request_}?as={answer}", text, head='kind = "http-json"\nversion = "2026"')
        with open_endpoint(read) as asked:
            np.testing.assert_allclose(asked(pictures), expected, atol=1e-5)
            assert asked.source == Source("endpoint", "toy", "2026", "")


def test_a_jpeg_is_almost_the_same(endpoint, logits, expected, predictor) -> None:
    smooth = np.asarray(Image.linear_gradient("L").resize((64, 64)).convert("RGB"))[None]
    with http_services.classifier(lambda one: softmax(logits(normalised(one[None])))[0].tolist(), LABELS) as url:
        text = (
            '[toy.input]\nimage = "body"\nformat = "jpeg"\n[toy.output]\nscores = "probabilities"\nform = "mapping"\n'
        )
        with open_endpoint(endpoint(f"{url}/body?as=mapping", text, head='kind = "http-json"')) as asked:
            answered = asked(smooth)
    assert 0 < np.abs(answered - predictor(smooth)).max() < 0.1


def test_classes_that_are_left_out_are_0_where_that_is_stated(endpoint, logits, pictures, expected) -> None:
    with http_services.classifier(lambda one: softmax(logits(normalised(one[None])))[0].tolist(), LABELS) as url:
        text = '[toy.input]\nimage = "body"\n[toy.output]\nscores = "probabilities"\nform = "mapping"\n'
        address = f"{url}/body?as=best"
        with open_endpoint(endpoint(address, f"{text}partial = true\n", head='kind = "http-json"')) as asked:
            answered = asked(pictures)
        with (
            open_endpoint(endpoint(address, text, head='kind = "http-json"')) as asked,
            pytest.raises(FailedPrecondition, match="answered 2 of 5 labels"),
        ):
            asked(pictures)
    best = np.sort(expected, axis=1)[:, -2:-1]
    np.testing.assert_allclose(answered, np.where(expected >= best, expected, 0), atol=1e-5)


def test_the_picture_is_what_the_model_sees(endpoint, logits, predictor, chelsea) -> None:
    image = Image.fromarray(chelsea)
    with oip.rest(oip.OipModel(logits)) as url:
        cropped, squeezed = (
            open_endpoint(endpoint(f"{url}/v2/models/toy", FP32, head=head)) for head in ("resize = 64", "")
        )
        with cropped, squeezed:
            np.testing.assert_array_equal(cropped.view.picture(image), predictor.view.picture(image))
            whole = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
            np.testing.assert_array_equal(squeezed.view.picture(image), whole)
