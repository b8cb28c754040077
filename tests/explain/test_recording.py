"""Explanations that are recorded: an entry before the answer, or no answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from explain.test_service import LABELS, ask
from ouzel import models
from ouzel.cli.ledger import ledger
from ouzel.explain import PNG, ExplainService, RawRequest, recorder
from ouzel.explain.recording import facts
from ouzel.ledger import VerifierKey, open_ledger, salted_hash, verify_proof
from ouzel.ledger.settings import settings
from ouzel.models import Model, archive
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from support.pictures import png


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUZEL_LEDGER", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


@pytest.fixture
def recording(tiny: Model, folder: Path) -> ExplainService:
    return ExplainService(tiny, record=recorder())


def entries(folder: Path, kind: str) -> list[dict]:
    opened = open_ledger(settings(folder), publish=False)
    try:
        opened.publish()
        return [json.loads(each.body or b"") for each in opened.entries(kind=kind)]
    finally:
        opened.close()


def test_the_answer_holds_its_entry_and_a_proof(recording: ExplainService, folder: Path) -> None:
    answer = ask(recording, {"record": True, "saliency": ["gradient"], "top_k": 2, "request_id": "case 7"})
    key = VerifierKey.parse((folder / "tiles" / "vkey").read_text().strip())
    proof, _ = verify_proof(answer.ledger.proof, answer.ledger.entry, key)
    assert proof.index == answer.ledger.index
    entry = json.loads(answer.ledger.entry)
    assert entry["kind"] == "explanation"
    said = entry["facts"]
    assert said["model"] == {"name": "tiny", "version": "3", "digest": "sha256:tiny"}
    assert said["options"] == {"top_k": 2, "saliency": [{"method": "gradient"}]}
    assert [each["probability"] for each in said["scores"]] == [each.probability for each in answer.scores]
    (told,) = said["maps"]
    assert told["sha256"] == hashlib.sha256(answer.saliency[0].values.data).hexdigest()
    salted = entry["salted"]
    assert salted["images"] == [salted_hash(answer.ledger.salt, "images", hashlib.sha256(png(0)).hexdigest())]
    assert salted["request_id"] == [salted_hash(answer.ledger.salt, "request_id", "case 7")]
    assert b"case 7" not in answer.ledger.entry


def test_only_what_asks_for_it_is_recorded(recording: ExplainService, folder: Path) -> None:
    asked = [json.dumps({"record": number % 2 == 1, "request_id": str(number)}) for number in range(6)]
    replies = recording.answer([RawRequest(image=png(0), options=each) for each in asked])
    assert [reply.envelope.HasField("ledger") for reply in replies] == [False, True] * 3
    assert sorted(reply.envelope.ledger.index for reply in replies[1::2]) == [0, 1, 2]
    assert len(entries(folder, "explanation")) == 3


def test_pixels_among_the_options_are_not_published() -> None:
    options = pb.ExplainOptions(saliency=[pb.SaliencyRequest(method="integrated_gradients")])
    baseline = tensors.encode(np.zeros((3, 8, 8), np.uint8))
    options.saliency[0].parameters["baseline"].tensor.CopyFrom(baseline)
    assert facts(options, pb.Explanation(), "image")["options"] == {"left_out": "tensors"}


def test_a_refusal_is_recorded_too(recording: ExplainService, folder: Path) -> None:
    answer = ask(recording, {"record": True, "saliency": [{"method": "gradient", "target": "unicorn"}]})
    assert answer.error.field == "saliency[0].target"
    (entry,) = entries(folder, "refusal")
    assert entry["facts"] == {"method": "explain", "code": "INVALID_ARGUMENT", "field": "saliency"}
    assert "unicorn" not in json.dumps(entry)


@pytest.mark.parametrize(
    ("options", "media_type", "words"),
    [
        ({"estimate_only": True}, "application/x-protobuf", "record: an estimate is not recorded"),
        ({"saliency": ["gradient"]}, PNG, "record: a picture carries no proof; ask for application/json"),
    ],
)
def test_what_cannot_carry_a_proof_is_refused(
    recording: ExplainService, options: dict, media_type: str, words: str
) -> None:
    answer = ask(recording, {"record": True, **options}, media_type=media_type)
    assert (answer.error.field, answer.error.message) == ("record", words)


def test_without_a_log_the_request_is_refused(service: ExplainService) -> None:
    answer = ask(service, {"record": True})
    assert answer.error.message == "record: this service keeps no log"


def test_no_answer_leaves_that_could_not_be_recorded(recording: ExplainService, folder: Path) -> None:
    ask(recording, {"record": True})
    (folder / "tiles" / "checkpoint").write_bytes(b"nonsense\n")
    answer = ask(recording, {"record": True})
    told = "the explanation could not be recorded, so it is not done: the log is refused; its operator can see why"
    assert (answer.error.code, answer.error.message) == (pb.Error.FAILED_PRECONDITION, told)
    assert not answer.scores
    assert ask(recording).scores  # others are answered


def test_an_entry_is_computed_again(folder: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = models.build("torchvision:squeezenet1_1", num_classes=4).state_dict()
    save_file(state, tmp_path / "tiny.safetensors")
    archive.create("tiny", "torchvision:squeezenet1_1", tmp_path / "tiny.safetensors", LABELS, tmp_path / "store")
    service = ExplainService(models.load(tmp_path / "store" / "tiny.mar"), record=recorder())
    index = ask(service, {"record": True, "saliency": ["gradient", "grad_cam"]}).ledger.index
    (tmp_path / "cat.png").write_bytes(png(0))
    (tmp_path / "other.png").write_bytes(png(1))

    def replay(image: str, number: int = index) -> Result:
        place = ("--ledger", str(folder), "--store", str(tmp_path / "store"))
        return CliRunner().invoke(ledger, ["replay", str(number), "--image", str(tmp_path / image), *place])

    assert "the same comes out again" in replay("cat.png").output
    assert "is not one that the entry is about" in replay("other.png").output
    opened = open_ledger(settings(folder), publish=False)
    facts = json.loads(opened.entry(index).body or b"")["facts"]
    facts["scores"][0]["probability"] += 0.01  # a log that says what did not come out
    forged = opened.append("explanation", facts, images=[hashlib.sha256(png(0)).hexdigest()])
    opened.prove(forged)
    opened.close()
    wrong = replay("cat.png", index + 1)
    assert (wrong.exit_code, "OTHERWISE scores[0].probability" in wrong.output) == (1, True)
