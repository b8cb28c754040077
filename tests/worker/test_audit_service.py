"""AuditService in a real worker, with the real process that audits and small random models."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import rfc8785
import torch
from google.protobuf.message import Message
from PIL import Image
from safetensors.torch import save_file

from ouzel import images, models
from ouzel.audit import Claim, ModelMaps, ModelPredictor, PredictionOptions, audit_prediction, most_pictures
from ouzel.errors import InvalidArgument as InvalidRequest
from ouzel.errors import ResourceExhausted
from ouzel.ledger.recorder import Recorder
from ouzel.models import archive
from ouzel.models.store import ModelStore
from ouzel.saliency import Explainer
from ouzel.worker.api.audit_requests import LARGEST_ANSWER
from ouzel.worker.api.audit_service import AuditService
from ouzel.worker.api.tokens import Tokens
from ouzel.worker.auditing import auditor
from ouzel.worker.auditing.auditor import Auditor, Caller
from ouzel.worker.auditing.task import ResidentOptions, Task
from ouzel.worker.datasets.store import Datasets
from ouzel_client import Client, FailedPrecondition, InvalidArgument, PredictionAudit
from ouzel_protos import tensors
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1 import dataset_pb2, explain_pb2
from ouzel_protos.v1.audit_pb2_grpc import AuditServiceStub
from support.datasets import entries, parts, ref
from support.jobs import Worker, until, worker
from support.looking import look
from support.tuned import ARCH, LABELS, publish

Code = grpc.StatusCode
BOB = "bob-has-a-long-token"
HEIGHT, WIDTH = 90, 120
RESIDENT = "ouzel.worker.auditing.resident"


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
IMAGE = png(PIXELS)
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[20:70, 35:85] = True
CUT_OUT = np.dstack([PIXELS, np.where(MASK, 255, 0).astype(np.uint8)])  # the object, before nothing


@dataclass
class Site:
    """A store with the operator's `tiny` and bob's `bobs`, and a data set of the local user with masks."""

    folder: Path

    def __post_init__(self) -> None:
        self.store = ModelStore(self.folder / "store")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_file(models.build(ARCH, num_classes=len(LABELS)).state_dict(), self.folder / "tiny.safetensors")
        archive.create("tiny", ARCH, self.folder / "tiny.safetensors", LABELS, self.store.folder)
        publish(self.store, "job 1", 1, "bobs", owner="bob")
        (self.folder / "tokens").write_text(f"bob {BOB}\n")
        self.state = self.folder / "state"
        self.dataset = self._dataset(masks=True)
        self.unmarked = self._dataset(masks=False)
        self.tiny = models.load(self.store.folder / "tiny.mar")
        self.explainer = Explainer(self.tiny, known_formats=self.state / "memory-formats")

    def _dataset(self, masks: bool) -> str:
        datasets = Datasets(self.state / "datasets")
        random = np.random.default_rng(1)
        pictures = {
            f"{label}/{number}.png": png(random.integers(0, 256, (40, 50, 3), dtype=np.uint8))
            for label in LABELS
            for number in range(2)
        }
        marked = png(np.pad(np.full((20, 20), 255, np.uint8), ((10, 10), (10, 20))))
        upload = datasets.upload("local")
        for part in parts(*pictures.values(), marked):
            upload.begin(part.file) if part.WhichOneof("part") == "file" else upload.write(part.chunk)
        upload.close()
        listed = entries(pictures)
        for entry in listed if masks else ():
            entry.mask.CopyFrom(ref(marked))
        return datasets.create("local", "", listed).id

    def worker(self, *options: str, real: bool = False) -> Any:
        """real: its kinds of jobs, which audits of single predictions do not need."""
        words = ["--tokens", str(self.folder / "tokens"), "--store", str(self.store.folder), *options]
        if not real:
            look(self.store.folder, self.state)
        return worker(f"sqlite://{self.state / 'jobs.db'}", self.state, *words, real=real)

    @property
    def predicted(self) -> str:
        predictor = ModelPredictor(self.tiny, self.explainer)
        return LABELS[int(predictor(predictor.view.picture(Image.fromarray(PIXELS))[None])[0].argmax())]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Worker]]:
    site = Site(tmp_path_factory.mktemp("audits"))
    with site.worker() as found:
        yield site, found


def request(site: Site, **fields: Any) -> pb.AuditPredictionRequest:
    """An audit of `tiny` that takes little time."""
    values: dict[str, Any] = {
        "image": IMAGE,
        "claimed": explain_pb2.ClassRef(label=site.predicted),
        "model": "tiny",
        "mask": tensors.encode(MASK),
        "options": pb.AuditOptions(steps=2, random_orders=1, fills=["blur", "mean"]),
        **fields,
    }
    return pb.AuditPredictionRequest(**{name: value for name, value in values.items() if value is not None})


def audit(found: Worker, asked: pb.AuditPredictionRequest, token: str = "", seconds: float = 240) -> pb.PredictionAudit:
    metadata = (("authorization", f"Bearer {token or found.token}"),)
    return AuditServiceStub(found.channel).AuditPrediction(asked, metadata=metadata, timeout=seconds)


def refused(function: Callable[..., object], *arguments: object, **more: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        function(*arguments, **more)
    return caught.value.code(), caught.value.details()


def residents(found: Worker) -> list[psutil.Process]:
    return [each for each in psutil.Process(found.process.pid).children() if RESIDENT in each.cmdline()]


def client(found: Worker) -> Client:
    return Client(worker=found.address, worker_token=found.token)


def test_the_answer_is_what_the_library_finds(shared: tuple[Site, Worker]) -> None:
    site, found = shared
    asked = request(site, include_pictures=True, request_id="r 1", options=pb.AuditOptions(steps=3, random_orders=1))
    answer = audit(found, asked)
    evidence = audit_prediction(
        ModelPredictor(site.tiny, site.explainer),
        ModelMaps(site.tiny, LABELS, "grad_cam", explainer=site.explainer),
        images.decode(IMAGE),
        Claim(site.predicted, mask=MASK),
        PredictionOptions(steps=3, random_orders=1),
    )
    assert (pb.Verdict.Name(answer.verdict).lower(), answer.reason) == (evidence.verdict, evidence.reason)
    assert [each.name for each in answer.counterfactuals] == [each.name for each in evidence.outcomes]
    for theirs, ours in zip(answer.counterfactuals, evidence.outcomes, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(theirs.picture))), ours.picture)
        assert theirs.probability == pytest.approx(ours.probability, abs=1e-6)
        assert (theirs.predicted, theirs.changed_pixels) == (ours.predicted, ours.changed_pixels)
    for theirs, ours in zip(answer.maps, evidence.maps, strict=True):
        np.testing.assert_allclose(tensors.decode(theirs.values), ours.values, atol=1e-5)
        assert theirs.share_on_object == pytest.approx(ours.share_on_object, abs=1e-5)
    (first, *others), faithful = answer.maps, evidence.maps[0].faithfulness
    assert faithful is not None
    assert first.faithfulness.deletion == pytest.approx(faithful.deletion, abs=1e-6)
    assert [each.HasField("faithfulness") for each in others] == [False, False]
    assert [each.effect for each in answer.effects] == pytest.approx(
        [each.effect for each in evidence.effects], abs=1e-5
    )
    assert (answer.source.kind, answer.source.digest) == (pb.AuditSource.MODEL, site.tiny.digest)
    assert answer.object_share == pytest.approx(float(evidence.mask.mean()))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.mask))) > 127, evidence.mask)
    assert answer.request_id == "r 1"
    assert answer.options.control_margin == pytest.approx(0.1)


def test_the_record_holds_together(shared: tuple[Site, Worker]) -> None:
    site, found = shared
    reported = pb.ReportedPrediction(model="their <b>net</b>", version="7", saliency=tensors.encode(np.eye(90, 120)))
    reported.scores.add(label="cat", probability=0.5)
    reported.time.FromSeconds(86_400)
    with_pictures = audit(found, request(site, reported=reported, include_pictures=True, dataset=site.dataset))
    bare = audit(found, request(site, reported=reported, dataset=site.dataset))
    record = json.loads(with_pictures.record)
    assert hashlib.sha256(with_pictures.record).hexdigest() == with_pictures.record_sha256
    assert with_pictures.record == rfc8785.dumps(record)
    pictures = {each.name: each.picture for each in with_pictures.counterfactuals}
    pictures |= {"picture": with_pictures.picture, "mask": with_pictures.mask}
    assert record["sha256"]["pictures"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in pictures.items()
    }
    maps = {each.of: hashlib.sha256(each.values.data).hexdigest() for each in with_pictures.maps}
    assert record["sha256"]["maps"] == maps
    assert record["precision"] == "exact"
    assert record["image"]["sha256"] == with_pictures.image_sha256 == hashlib.sha256(IMAGE).hexdigest()
    assert record["given_mask"] == {"sha256": hashlib.sha256(MASK.tobytes()).hexdigest()}
    assert (record["reported"]["model"], record["reported"]["time"]) == ("their <b>net</b>", "1970-01-02T00:00:00Z")
    assert record["reported"]["saliency_sha256"] == hashlib.sha256(reported.saliency.data).hexdigest()
    assert (with_pictures.reported.version, with_pictures.reported.HasField("saliency")) == ("7", False)
    assert record["reported_map"]["rank_correlation"] == with_pictures.reported_map.rank_correlation
    again = json.loads(bare.record)
    assert {name for name in record if record[name] != again[name]} <= {"time"}
    assert {each.picture for each in bare.counterfactuals} | {bare.picture, bare.mask} == {b""}


def test_a_data_set_gives_other_places_and_objects(shared: tuple[Site, Worker]) -> None:
    site, found = shared
    claimed = explain_pb2.ClassRef(label=f"index:{LABELS.index(site.predicted)}")  # however the class is named
    options = pb.AuditOptions(steps=0, scenes=2)
    answer = audit(found, request(site, claimed=claimed, dataset=site.dataset, options=options))
    drawn = [each.name for each in answer.counterfactuals if each.kind == "scene"]
    assert len(drawn) == len(set(drawn)) == 2 + 2 + 2 + 2
    for name in drawn:
        change, _, path = name.partition("/")
        assert path.startswith(f"{site.predicted}/") == change.startswith("same_")
    assert not any(each.HasField("faithfulness") for each in answer.maps)
    code, said = refused(audit, found, request(site, dataset=site.unmarked))
    assert (code, "has neither masks nor boxes" in said) == (Code.INVALID_ARGUMENT, True)
    assert refused(audit, found, request(site, dataset=site.dataset), BOB)[0] == Code.NOT_FOUND


@pytest.mark.parametrize("region", ["mask_file", "boxes", "uint8"])
def test_the_object_can_be_marked_in_several_ways(shared: tuple[Site, Worker], region: str) -> None:
    site, found = shared
    grey = np.where(MASK, 255, 0).astype(np.uint8)
    fields: dict[str, Any] = {
        "mask_file": {"mask": None, "mask_file": png(grey)},
        "boxes": {"mask": None, "boxes": [dataset_pb2.Box(left=35.4, top=20, right=84.2, bottom=70)]},
        "uint8": {"mask": tensors.encode(grey)},
    }[region]
    expected, answer = audit(found, request(site)), audit(found, request(site, **fields))
    assert answer.object_share == expected.object_share
    assert answer.counterfactuals == expected.counterfactuals
    assert answer.mask_source == ("boxes" if region == "boxes" else "mask")
    nominated = audit(found, request(site, mask=None))
    assert (nominated.mask_source, nominated.verdict) == ("nominated", pb.INCONCLUSIVE)


def test_models_are_those_that_the_owner_sees(shared: tuple[Site, Worker]) -> None:
    site, found = shared
    for token, field in (("", "model"), ("", "surrogate")):
        code, said = refused(audit, found, request(site, **{field: "bobs"}), token)
        assert (code, said) == (Code.NOT_FOUND, f"{field}: no model 'bobs'; there is tiny")
    answer = audit(found, request(site, model="bobs@1"), BOB)
    assert (answer.source.name, answer.source.version) == ("bobs", "1")
    both = audit(found, request(site, surrogate="tiny@1", model="bobs"), BOB)
    assert "a surrogate" in both.maps_from
    assert both.source.name == "bobs"
    assert refused(audit, found, request(site), "nobody")[0] == Code.UNAUTHENTICATED


def tensor(array: np.ndarray) -> Any:
    return tensors.encode(array)


NAN = np.full((9, 12), np.nan, dtype=np.float32)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"image": b""}, "image"),
    "another file": ({"image": b"GIF89a"}, "image"),
    "large image": ({"image": IMAGE + bytes(6_553_500)}, "image"),
    "narrow image": ({"image": png(np.zeros((8, 100, 3), np.uint8)), "mask": None}, "image"),
    "no claim": ({"claimed": None}, "claimed"),
    "no such class": ({"claimed": explain_pb2.ClassRef(label="goat")}, "claimed"),
    "no such index": ({"claimed": explain_pb2.ClassRef(index=3)}, "claimed"),
    "no source": ({"model": None}, "model"),
    "empty source": ({"model": ""}, "model"),
    "mask size": ({"mask": tensor(MASK.T.copy())}, "mask"),
    "mask type": ({"mask": tensor(MASK.astype(np.float32))}, "mask"),
    "mask shape": ({"mask": tensor(MASK[None])}, "mask"),
    "mask bytes": ({"mask": {"dtype": 9, "shape": [HEIGHT, WIDTH], "data": b"1"}}, "mask"),
    "empty mask": ({"mask": tensor(np.zeros_like(MASK))}, "mask"),
    "full mask": ({"mask": tensor(np.ones_like(MASK))}, "mask"),
    "mask of ones": ({"mask": tensor(MASK.astype(np.uint8))}, "mask"),
    "mask file": ({"mask": None, "mask_file": b"x"}, "mask_file"),
    "transparent mask": ({"mask": None, "mask_file": png(CUT_OUT)}, "mask_file"),
    "contact": ({"contact": pb.AuditContact(contact="x" * 501)}, "contact.contact"),
    "mask file size": ({"mask": None, "mask_file": png(np.zeros((8, 8), np.uint8))}, "mask_file"),
    "two regions": ({"boxes": [dataset_pb2.Box(right=5, bottom=5)]}, "boxes"),
    "box outside": ({"mask": None, "boxes": [dataset_pb2.Box(right=WIDTH + 1, bottom=5)]}, "boxes[0]"),
    "box of nothing": ({"mask": None, "boxes": [dataset_pb2.Box(left=5, right=5, bottom=5)]}, "boxes[0]"),
    "box of NaN": ({"mask": None, "boxes": [dataset_pb2.Box(left=float("nan"))]}, "boxes[0]"),
    "many boxes": ({"mask": None, "boxes": [dataset_pb2.Box(right=5, bottom=5)] * 1001}, "boxes"),
    "method": ({"method": "grad_camm"}, "method"),
    "fills": ({"options": {"fills": ["snow"]}}, "options.fills"),
    "fills twice": ({"options": {"fills": ["blur", "blur"]}}, "options.fills"),
    "scenes": ({"options": {"scenes": 33}}, "options.scenes"),
    "steps": ({"options": {"steps": 1}}, "options.steps"),
    "random orders": ({"options": {"random_orders": 33}}, "options.random_orders"),
    "effect margin": ({"options": {"effect_margin": 1.5}}, "options.effect_margin"),
    "effect of NaN": ({"options": {"effect_margin": float("nan")}}, "options.effect_margin"),
    "control margin": ({"options": {"control_margin": -0.1}}, "options.control_margin"),
    "seed": ({"options": {"seed": -1}}, "options.seed"),
    "many pictures": ({"options": {"steps": 256, "random_orders": 32}}, "options"),
    "score": ({"reported": {"scores": [{"label": "cat", "probability": 1.1}]}}, "reported.scores[0].probability"),
    "NaN": ({"reported": {"scores": [{"label": "a", "probability": float("nan")}]}}, "reported.scores[0].probability"),
    "label": ({"reported": {"scores": [{"label": " ", "probability": 1}]}}, "reported.scores[0].label"),
    "many scores": ({"reported": {"scores": [{"label": "cat"}] * 1001}}, "reported.scores"),
    "long name": ({"reported": {"model": "x" * 201}}, "reported.model"),
    "map of NaN": ({"reported": {"saliency": tensor(NAN)}}, "reported.saliency"),
    "map of integers": ({"reported": {"saliency": tensor(np.ones((9, 12), np.uint8))}}, "reported.saliency"),
    "map's shape": ({"reported": {"saliency": tensor(np.eye(9, 9))}}, "reported.saliency"),
    "flat map": ({"reported": {"saliency": tensor(np.ones((9, 12)))}}, "reported.saliency"),
    "map's bytes": ({"reported": {"saliency": {"dtype": 1, "shape": [9, 12]}}}, "reported.saliency"),
    "time": ({"reported": {"time": {"seconds": 10**14}}}, "reported.time"),
    "long id": ({"request_id": "x" * 129}, "request_id"),
    "two lines": ({"request_id": "a\nb"}, "request_id"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_the_name_of_its_field(shared: tuple[Site, Worker], case: str) -> None:
    site, found = shared
    fields, field = BAD[case]
    code, said = refused(audit, found, request(site, **fields))
    assert (code, said.partition(":")[0]) == (Code.INVALID_ARGUMENT, field), said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("field", "value"), [("model", "none"), ("endpoint", "http://10.0.0.1"), ("dataset", "0" * 64)]
)
def test_what_is_not_there(shared: tuple[Site, Worker], field: str, value: str) -> None:
    site, found = shared
    code, said = refused(
        audit, found, request(site, **{"model": None if field == "endpoint" else "tiny", field: value})
    )
    assert (code, said.partition(":")[0]) == (Code.NOT_FOUND, field)


def test_a_process_that_is_killed_is_started_again(shared: tuple[Site, Worker]) -> None:
    site, found = shared
    audit(found, request(site))
    (process,) = residents(found)
    slow = request(site, options=pb.AuditOptions(steps=256, random_orders=5))
    call = AuditServiceStub(found.channel).AuditPrediction.future(slow, metadata=found.metadata, timeout=240)
    before = process.cpu_times().user
    until(lambda: process.cpu_times().user > before + 0.2)
    os.kill(process.pid, signal.SIGKILL)
    code, said = refused(call.result)
    assert (code, "was lost; try again" in said) == (Code.UNAVAILABLE, True)
    assert audit(found, request(site)).counterfactuals
    (another,) = residents(found)
    assert another.pid != process.pid


def test_a_deadline_ends_the_work_and_not_the_process(shared: tuple[Site, Worker]) -> None:
    site, found = shared
    audit(found, request(site))
    (process,) = residents(found)
    slow = request(site, options=pb.AuditOptions(steps=256, random_orders=5))
    assert refused(audit, found, slow, seconds=1.0)[0] == Code.DEADLINE_EXCEEDED
    assert audit(found, request(site)).counterfactuals
    assert [each.pid for each in residents(found)] == [process.pid]


def test_a_function_of_the_caller_gives_the_same_evidence(shared: tuple[Site, Worker]) -> None:
    site, found = shared
    seen: list[int] = []
    predictor = ModelPredictor(site.tiny, site.explainer)
    preprocessing = site.tiny.preprocessing

    def predict(pictures: np.ndarray) -> np.ndarray:
        seen.append(len(pictures))
        return predictor(pictures)

    with client(found) as ouzel:
        options: dict[str, Any] = {"mask": MASK, "steps": 5, "random_orders": 1, "dataset": site.dataset, "scenes": 2}
        white = ouzel.audit(IMAGE, claimed=site.predicted, model="tiny", timeout=240, **options)
        black = ouzel.audit(
            IMAGE,
            claimed=site.predicted,
            predict=predict,
            labels=LABELS,
            size=preprocessing.input_size,
            resize=preprocessing.resize,
            surrogate="tiny",
            name="mine",
            version="3",
            timeout=240,
            **options,
        )
    assert (black.source.kind, black.source.name, black.source.version) == ("callable", "mine", "3")
    assert comparable(black) == comparable(white)
    assert [each.png for each in black.counterfactuals] == [each.png for each in white.counterfactuals]
    asked = PredictionOptions(steps=5, random_orders=1, scenes=2)
    assert sum(seen) == most_pictures(asked, scenes=len(LABELS) * 2)
    assert max(seen) == 16


def comparable(result: PredictionAudit) -> dict[str, Any]:
    """What must not depend on who asked the network. Two processes may round the last digits differently."""

    def rounded(value: Any) -> Any:
        values = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        return {
            name: pytest.approx(each, abs=1e-6) if isinstance(each, float) else each
            for name, each in values.items()
            if name not in ("png", "saliency")
        }

    return {
        "verdict": result.verdict,
        "agreement": (result.agreement.rank, result.agreement.predicted.label, result.agreement.rival.label),
        "effects": [rounded(each) for each in result.effects],
        "counterfactuals": [rounded(each) for each in result.counterfactuals],
        "maps": [(each.of, each.method, pytest.approx(each.share_on_object, abs=1e-6)) for each in result.maps],
        "faithfulness": rounded(result.maps[0].faithfulness),
        "object": (result.mask_source, result.object_share, result.limits),
    }


def test_without_a_surrogate_the_answers_make_the_maps(shared: tuple[Site, Worker]) -> None:
    _, found = shared
    count = 0

    def predict(pictures: np.ndarray) -> list[list[float]]:
        """Whether the middle is bright."""
        nonlocal count
        count += len(pictures)
        bright = pictures[:, 10:20, 10:20].mean((1, 2, 3)) / 255
        return [[float(each), float(1 - each)] for each in bright]

    bright = np.full((30, 30, 3), 40, np.uint8)
    bright[10:20, 10:20] = 250
    mask = np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    with client(found) as ouzel:
        of: dict[str, Any] = {"predict": predict, "labels": ["bright", "dark"], "size": (30, 30)}
        result = ouzel.audit(bright, claimed="bright", mask=mask, **of)
        assert (result.verdict, result.maps[0].method) == ("rests_on_object", "occlusion of answers")
        assert count == most_pictures(PredictionOptions(), by_answers=True)
        row, column = np.unravel_index(result.map().array.argmax(), (30, 30))
        assert mask[row, column]
        with pytest.raises(InvalidArgument, match="method: 'guided' needs a model to look into"):
            ouzel.audit(bright, claimed="dark", method="guided", **of)


ANSWERS: dict[str, Any] = {
    "NaN": lambda n: np.full((n, 2), np.nan),
    "logits": lambda n: np.tile([3.0, -1.0], (n, 1)),
    "more than 1": lambda n: np.tile([0.9, 0.9], (n, 1)),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_are_no_probabilities_are_refused(shared: tuple[Site, Worker], case: str) -> None:
    _, found = shared
    with client(found) as ouzel, pytest.raises(FailedPrecondition, match="callable 'predict': answered"):
        ouzel.audit(IMAGE, claimed="a", predict=lambda x: ANSWERS[case](len(x)), labels=["a", "b"])


def converse(found: Worker, *messages: Message) -> list[str]:
    """The kinds of what comes back; the messages are sent at once."""
    requests = iter([each if isinstance(each, pb.AuditReportedRequest) else part(each) for each in messages])
    call = AuditServiceStub(found.channel).AuditReported(requests, metadata=found.metadata, timeout=60)
    return [each.WhichOneof("part") for each in call]


def part(message: Message) -> pb.AuditReportedRequest:
    name = "start" if isinstance(message, pb.ReportedStart) else "answer"
    return pb.AuditReportedRequest(**{name: message})  # type: ignore[arg-type]


def start(**fields: Any) -> pb.ReportedStart:
    asked = pb.AuditPredictionRequest(image=IMAGE, claimed=explain_pb2.ClassRef(label="a"))
    return pb.ReportedStart(**{"request": asked, "labels": ["a", "b"], **fields})


BAD_STARTS: dict[str, tuple[dict[str, Any], str]] = {
    "one label": ({"labels": ["a"]}, "labels"),
    "label twice": ({"labels": ["a", "a"]}, "labels[1]"),
    "empty label": ({"labels": ["a", ""]}, "labels[1]"),
    "height alone": ({"height": 64}, "width"),
    "small": ({"height": 4, "width": 64}, "height"),
    "large": ({"height": 64, "width": 641}, "width"),
    "resize alone": ({"resize": 64}, "resize"),
    "small resize": ({"height": 64, "width": 64, "resize": 32}, "resize"),
    "name": ({"name": "x" * 201}, "name"),
    "a source": ({"request": pb.AuditPredictionRequest(image=IMAGE, model="tiny")}, "claimed"),
    "nothing": ({"request": pb.AuditPredictionRequest()}, "image"),
}


@pytest.mark.parametrize("case", BAD_STARTS)
def test_bad_starts_are_refused(shared: tuple[Site, Worker], case: str) -> None:
    _, found = shared
    fields, field = BAD_STARTS[case]
    code, said = refused(converse, found, start(**fields))
    assert (code, said.partition(":")[0]) == (Code.INVALID_ARGUMENT, field), said


def test_conversations_that_leave_the_path_end(shared: tuple[Site, Worker]) -> None:
    _, found = shared
    scores = tensors.encode(np.tile([0.5, 0.5], (1, 1)))
    for messages, said in (
        ((), "start: missing"),
        ((pb.ReportedAnswer(number=1),), "start: answer came in its place"),
        ((start(),), "answer: missing"),
        ((start(), start()), "answer: start came in its place"),
        ((start(), pb.ReportedAnswer(number=2, scores=scores)), "answer.number: 2 is not that of the question, 1"),
        ((start(), pb.ReportedAnswer(number=1)), "answer.scores: dtype 0 is not a dtype of Tensor"),
    ):
        code, details = refused(converse, found, *messages)
        assert (code, details[: len(said)]) == (Code.INVALID_ARGUMENT, said)
    named = start(request=pb.AuditPredictionRequest(image=IMAGE, claimed=explain_pb2.ClassRef(index=0), model="tiny"))
    assert refused(converse, found, named) == (
        Code.INVALID_ARGUMENT,
        "model: must be absent where the caller answers",
    )


def test_a_caller_who_falls_silent_is_not_waited_for(tmp_path: Path) -> None:
    with worker(f"sqlite://{tmp_path / 'jobs.db'}", tmp_path / "state", "--patience", "0.5") as found:
        over = threading.Event()

        def silent() -> Iterator[pb.AuditReportedRequest]:
            yield part(start())
            over.wait(60)

        call = AuditServiceStub(found.channel).AuditReported(silent(), metadata=found.metadata, timeout=120)
        code, said = refused(list, call)
        over.set()
        assert (code, "for 0.5 s" in said or "in 0.5 s" in said) == (Code.DEADLINE_EXCEEDED, True)
        (process,) = residents(found)
        found.stop(kill=True)
    until(lambda: not process.is_running())  # it ends with its worker


def test_what_would_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(auditor, "MOST_BYTES", 10**6)
    runs = Auditor(ResidentOptions(tmp_path, tmp_path))
    nobody = Caller(threading.Event(), lambda _: None, lambda _: pb.ReportedAnswer())
    with pytest.raises(InvalidRequest, match=r"^options.scenes: the changed pictures have \d+ bytes, the limit is"):
        runs.audit_reported(Task("ann"), start(height=300, width=300), nobody)

    async def answer() -> None:
        service = AuditService(
            None,
            None,
            Datasets(tmp_path),
            Tokens({}),
            endpoints={},
            patience=1,
            recorder=Recorder(None),  # type: ignore[arg-type]
        )
        try:
            await service._answer(bytes(LARGEST_ANSWER + 1))
        finally:
            service.release()

    with pytest.raises(ResourceExhausted, match="include_pictures: the answer has"):
        asyncio.run(answer())


def test_no_endpoints_and_no_torch(shared: tuple[Site, Worker]) -> None:
    _, found = shared
    with client(found) as ouzel:
        assert ouzel.audit.sources() == ()
    assert "libtorch" not in Path(f"/proc/{found.process.pid}/maps").read_text()


def test_a_jpeg_larger_than_what_is_decoded_is_audited(shared: tuple[Site, Worker]) -> None:
    """As explain takes it: read at a fraction of its size, and boxes are in pixels of the file."""
    site, found = shared
    out = io.BytesIO()
    Image.new("RGB", (5000, 4200), (90, 120, 30)).save(out, "JPEG")
    boxes = [dataset_pb2.Box(left=1700, top=1200, right=3200, bottom=2800)]
    answer = audit(found, request(site, image=out.getvalue(), mask=None, boxes=boxes))
    assert (answer.view.image_width, answer.view.image_height) == (5000, 4200)
    seen = (answer.view.right - answer.view.left) * (answer.view.bottom - answer.view.top)
    assert answer.object_share == pytest.approx(1500 * 1600 / seen, abs=0.01)
