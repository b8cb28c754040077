"""What jobs, audits and reports say to a segmentation model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ouzel import models
from ouzel.audit import ModelPredictor
from ouzel.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from ouzel.finetune import finetune
from ouzel.maximize import Channel, ClassLogit, maximize, search
from ouzel.metrics.deletion import area
from ouzel.models.store import ModelStore
from ouzel.trust import trust
from ouzel.worker.api.audit_requests import task_of
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import audit_sources, targets
from ouzel.worker.kinds import finetune as finetune_kind
from ouzel_protos.v1 import audit_pb2, explain_pb2, job_pb2
from support import segmenters
from support.heads import backbone, publish_head
from support.looking import Here

TOLD = "'segments' is a segmentation model; {} need a classifier"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmenters.archived(tmp_path_factory.mktemp("store")).parent


@pytest.fixture(scope="module")
def model(store: Path) -> models.Model:
    return models.load(store / "segments.mar")


@pytest.fixture(scope="module")
def catalogue(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Catalogue(store, tmp_path_factory.mktemp("cache"), isolated=Here())


def test_the_worker_knows_what_a_model_is_for(catalogue: Catalogue, model: models.Model) -> None:
    known = catalogue.model("segments")
    assert (known.task, known.labels) == ("segmentation", model.labels)
    assert known.layers["head"] == (4, 32, 32)


def test_classes_are_not_maximized_but_channels_are(catalogue: Catalogue, model: models.Model) -> None:
    known = catalogue.model("segments")
    logit = job_pb2.Node(logit=explain_pb2.ClassRef(index=1))
    with pytest.raises(InvalidArgument, match=r"targets\[0\]\.logit: .* channels of its last layer"):
        targets.check([logit], known, 1)
    channel = job_pb2.Node(channel=job_pb2.Channel(layer="head", channel=1))
    targets.check([channel], known, 1)
    for run in (lambda: maximize(model, [ClassLogit(1)]), lambda: search(model, [ClassLogit(1)], pictures())):
        with pytest.raises(InvalidArgument, match="channels of its last layer"):
            run()
    found = maximize(model, [Channel("head", 1)], recipe="pixel", seed=1)
    image = found.visualizations[0].image
    with torch.no_grad():
        x = model.preprocessing.normalised(image[None] * 255)
        seen = []
        model.network.get_submodule("head").register_forward_hook(lambda _m, _i, output: seen.append(output))
        model.network(x)
    assert found.visualizations[0].activation == pytest.approx(float(seen[0][0, 1].mean()), rel=1e-2)


def pictures():
    return [("grey", torch.full((3, 64, 64), 0.5))]


def test_audits_trust_reports_and_recipes_refuse_it(catalogue: Catalogue, model: models.Model) -> None:
    with pytest.raises(FailedPrecondition, match=TOLD.format("audits")):
        ModelPredictor(model)
    with pytest.raises(FailedPrecondition, match=TOLD.format("trust reports")):
        trust(model, [])
    with pytest.raises(FailedPrecondition, match=TOLD.format("recipes")):
        finetune(model, [])
    with pytest.raises(FailedPrecondition, match="these figures are of classifiers"):
        area(model.network, torch.zeros(3, 64, 64), torch.rand(64, 64), 0, "deletion", steps=2)
    audit = job_pb2.AuditSpec(model="segments")
    with pytest.raises(FailedPrecondition, match=TOLD.format("audits")):
        audit_sources.check(audit, catalogue)
    tune = job_pb2.FinetuneSpec(base="segments", name="new")
    with pytest.raises(FailedPrecondition, match=TOLD.format("recipes for labels")):
        finetune_kind.validate(tune, catalogue)
    claimed = explain_pb2.ClassRef(index=0)
    image = (Path(__file__).parents[2] / "docs" / "demo.jpg").read_bytes()
    for field in ("model", "surrogate"):
        request = audit_pb2.AuditPredictionRequest(
            image=image, claimed=claimed, **{"model": "segments", field: "segments"}
        )
        with pytest.raises(FailedPrecondition, match=TOLD.format("audits")):
            task_of(request, catalogue, None, "ann", endpoints=())  # type: ignore[arg-type]


def test_versions_of_a_model_are_for_one_task(catalogue: Catalogue, store: Path) -> None:
    publish_head(ModelStore(store), backbone(), 3, 1, name="mine")
    mine = catalogue.seen_by("local")
    mine.check_new_name("mine")
    with pytest.raises(AlreadyExists, match="'mine' is a classifier; choose another name"):
        mine.check_new_name("mine", "segmentation")
