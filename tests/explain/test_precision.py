"""The answer says what it was computed in, and how far that moves it."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format

from ouzel.errors import InvalidArgument
from ouzel.explain import JSON, ExplainService, RawRequest
from ouzel.explain.recording import facts
from ouzel.models import Model
from ouzel_client._codec.explanation import explanation
from ouzel_client._pictures.upload import Upload
from ouzel_protos.v1 import explain_pb2 as pb
from support.pictures import png

IMAGE = png(0)
OPTIONS = {"saliency": ["gradient"]}


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUZEL_PRECISION", raising=False)


def answered(service: ExplainService, media_type: str = "application/x-protobuf") -> pb.Explanation:
    (reply,) = service.answer([RawRequest(image=IMAGE, options=json.dumps(OPTIONS), media_type=media_type)])
    assert not reply.envelope.HasField("error"), reply.envelope.error
    if media_type == JSON:
        body, _ = reply.render(JSON)
        assert json.loads(body)["model"]["precision"] == reply.envelope.model.precision
    return reply.envelope


def test_an_exact_answer_says_so(tiny: Model) -> None:
    answer = answered(ExplainService(tiny), JSON)
    assert (answer.model.precision, answer.model.HasField("deviation")) == ("exact", False)
    told = explanation(answer, Upload("image", IMAGE)).model
    assert (told.precision, told.deviation) == ("exact", None)


def test_a_fast_answer_states_its_deviation(tiny: Model) -> None:
    service = ExplainService(tiny, precision="bf16")
    answer = answered(service, JSON)
    measured = service.explainer.deviation
    assert measured is not None
    assert measured.logits is not None
    assert measured.gradient is not None
    assert measured.logits > 0
    told = explanation(answer, Upload("image", IMAGE)).model
    assert told.precision == "bf16"
    assert told.deviation is not None
    assert (told.deviation.logits, told.deviation.gradient) == (measured.logits, measured.gradient)
    assert told.deviation.inputs == 8
    assert json_format.MessageToDict(answer.model)["deviation"]["gradient"] == measured.gradient


def test_the_variable_is_over_the_archive_and_an_argument_over_both(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = Model(**{**vars(tiny), "precision": "bf16"})
    assert answered(ExplainService(fast)).model.precision == "bf16"
    monkeypatch.setenv("OUZEL_PRECISION", "tf32")
    assert answered(ExplainService(fast)).model.precision == "tf32"
    assert answered(ExplainService(fast, precision="exact")).model.precision == "exact"
    monkeypatch.setenv("OUZEL_PRECISION", "tf23")
    with pytest.raises(InvalidArgument, match="OUZEL_PRECISION: 'tf23' is not one of exact, tf32, bf16"):
        ExplainService(tiny)


def test_an_entry_of_the_log_says_what_is_not_exact(tiny: Model) -> None:
    options = json_format.ParseDict({"saliency": [{"method": "gradient"}]}, pb.ExplainOptions())
    exact, fast = (answered(ExplainService(tiny, precision=each)) for each in ("exact", "bf16"))
    assert facts(options, fast, "image")["model"]["precision"] == "bf16"
    assert "precision" not in facts(options, exact, "image")["model"]  # as in entries from before there was a choice
