"""The real kinds of jobs: refused in the service, run in a process, resumed after a kill."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from skimage import data

from ouzel import maximize, models
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, OuzelError
from ouzel.forking.client import ForkServer
from ouzel.models import Model, archive
from ouzel.trust import shipped
from ouzel.worker.api import requests
from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.catalog.catalog import Budget, Catalogue
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.isolated import Isolated
from ouzel.worker.kinds import checkpoint
from ouzel.worker.kinds import maximize as maximize_kind
from ouzel.worker.kinds.context import JobContext
from ouzel.worker.processes.local_executor import LocalExecutor
from ouzel.worker.runner.runner import Runner
from ouzel.worker.runner.supervisor import Slot
from ouzel.worker.store.job import Job, Lease, State
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import QUICK, ended, environment, submit, until
from support.services import write_archive

MODEL = "efficientnet-lite0"
OUZEL = pb.Node(logit=explain_pb2.ClassRef(label="water ouzel"))


def number(value: float) -> explain_pb2.Parameter:
    if isinstance(value, int):
        return explain_pb2.Parameter(integer=value)
    return explain_pb2.Parameter(number=value)


def asked(targets: tuple[pb.Node, ...] = (OUZEL,), steps: float = 4, **more: object) -> pb.JobSpec:
    values = {"model": MODEL, "height": 64, "width": 64, **more}
    parameters = {"steps": number(steps), **values.pop("parameters", {})}  # type: ignore[dict-item]
    return pb.JobSpec(maximize=pb.MaximizeSpec(targets=targets, parameters=parameters, **values))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def catalogue(lite0_store: Path, tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> Catalogue:
    folder = tmp_path_factory.mktemp("catalogue")
    made = Catalogue(lite0_store, folder, {"birds": lite0_store}, isolated=Isolated(forks))
    made.model(MODEL)
    return made


def channel(layer: str = "blocks.3", of: int = 0) -> tuple[pb.Node]:
    return (pb.Node(channel=pb.Channel(layer=layer, channel=of)),)


@pytest.mark.parametrize(
    ("spec", "error", "field"),
    [
        (asked(steps=0), InvalidArgument, "parameters.steps"),
        (asked(steps=-1), InvalidArgument, "parameters.steps"),
        (asked(steps=10**9), InvalidArgument, "parameters.steps"),
        (asked(steps=100_000, images_per_target=1000), InvalidArgument, "parameters.steps"),
        (asked(parameters={"rate": number(math.nan)}), InvalidArgument, "parameters.rate"),
        (asked(parameters={"rate": explain_pb2.Parameter(text="fast")}), InvalidArgument, "parameters.rate"),
        (asked(steps=2.5), InvalidArgument, "parameters.steps"),
        (asked(parameters={"stpes": number(3)}), InvalidArgument, "parameters.stpes"),
        (asked(recipe="furier"), InvalidArgument, "recipe"),
        (asked(images_per_target=10**6), InvalidArgument, "images_per_target"),
        (asked(images_per_target=-1), InvalidArgument, "images_per_target"),
        (asked(height=0, width=64), InvalidArgument, "height"),
        (asked(height=64, width=100_000), InvalidArgument, "width"),
        (asked(seed=-1), InvalidArgument, "seed"),
        (asked(targets=()), InvalidArgument, "targets"),
        (asked(targets=(OUZEL,) * 257), InvalidArgument, "targets"),
        (asked(targets=(pb.Node(),)), InvalidArgument, "targets[0]"),
        (asked(targets=(pb.Node(logit=explain_pb2.ClassRef(index=1000)),)), InvalidArgument, "targets[0].logit.index"),
        (asked(targets=(pb.Node(logit=explain_pb2.ClassRef(index=2**62)),)), InvalidArgument, "targets[0].logit.index"),
        (
            asked(targets=(pb.Node(logit=explain_pb2.ClassRef(label="ouzle")),)),
            InvalidArgument,
            "targets[0].logit.label",
        ),
        (asked(targets=channel("__class__")), NotFound, "targets[0].channel.layer"),
        (asked(targets=channel("../x")), NotFound, "targets[0].channel.layer"),
        (asked(targets=channel(of=-1)), InvalidArgument, "targets[0].channel.channel"),
        (asked(targets=channel(of=2**31 - 1)), InvalidArgument, "targets[0].channel.channel"),
        (asked(targets=(pb.Node(unit=pb.Unit(layer="blocks.3", x=99)),)), InvalidArgument, "targets[0].unit.x"),
        (asked(targets=(pb.Node(unit=pb.Unit(layer="classifier")),)), InvalidArgument, "targets[0].unit.layer"),
        (
            asked(targets=(pb.Node(direction=pb.Direction(layer="blocks.3", weights=[1.0])),)),
            InvalidArgument,
            "targets[0].direction.weights",
        ),
        (asked(model="no-such"), NotFound, "model"),
        (asked(model="../secret"), NotFound, "model"),
        (asked(model=""), NotFound, "model"),
        (asked(judge="no-such"), NotFound, "judge"),
        (asked(judge=MODEL), InvalidArgument, "judge"),
        (asked(model_digest="sha256:0"), FailedPrecondition, "model_digest"),
        (asked(path=True), InvalidArgument, "dataset"),
        (asked(dataset="/etc"), NotFound, "dataset"),
        (asked(dataset="gopher://there"), InvalidArgument, "dataset"),
        (
            pb.JobSpec(search_activations=pb.SearchActivationsSpec(model=MODEL, targets=[OUZEL], dataset="/etc")),
            NotFound,
            "dataset",
        ),
        (
            pb.JobSpec(search_activations=pb.SearchActivationsSpec(model=MODEL, targets=[OUZEL], top_k=10**6)),
            InvalidArgument,
            "top_k",
        ),
    ],
)
def test_refused_at_once(catalogue: Catalogue, spec: pb.JobSpec, error: type[OuzelError], field: str) -> None:
    """Before anything is queued, without torch, and the field is named."""
    with pytest.raises(error) as caught:
        requests.new_job(pb.CreateJobRequest(spec=spec), catalogue)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_a_whole_double_is_taken_as_steps(catalogue: Catalogue) -> None:
    """As JSON and many languages send every number."""
    assert requests.new_job(pb.CreateJobRequest(spec=asked(steps=16.0)), catalogue)
    with pytest.raises(InvalidArgument, match=r"1000000000 is not within 1\.\.100000"):
        requests.new_job(pb.CreateJobRequest(spec=asked(steps=1e9)), catalogue)


def test_the_budget_names_what_fits(catalogue: Catalogue) -> None:
    small = replace(catalogue, budget=Budget(values=64 * 64 * 3 * 10))
    assert requests.new_job(pb.CreateJobRequest(spec=asked(steps=10)), small)
    with pytest.raises(InvalidArgument, match="at most 10 steps fit"):
        requests.new_job(pb.CreateJobRequest(spec=asked(steps=11)), small)


class Nobody(Isolated):
    """Whoever asks it, need not have asked."""

    def ask(self, module: str, *_arguments: str, seconds: float) -> bytes:
        raise AssertionError(f"{module} was asked, for {seconds} s")


def test_a_damaged_archive_and_one_of_others_are_told_of_without_torch(tmp_path: Path) -> None:
    (tmp_path / "broken.mar").write_bytes(b"no zip")
    write_archive(tmp_path / "foreign.mar")
    catalogue = Catalogue(tmp_path, tmp_path / "cache", isolated=Nobody())
    for name, reason in (("broken", "is not a sound zip file"), ("foreign", "model.json")):
        with pytest.raises(FailedPrecondition, match=f"^model: .*{reason}"):
            catalogue.model(name)


def test_the_service_never_loads_torch() -> None:
    program = "import sys, ouzel.cli.worker, ouzel.worker.server, ouzel.worker.kinds as k; k.find('maximize'); "
    program += "k.find('search_activations'); print(sorted({'torch', 'numpy', 'PIL'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_state_file_keeps_everything() -> None:
    optimizer = torch.optim.Adam([leaf := torch.zeros(3, requires_grad=True)])
    leaf.grad = torch.ones(3)
    optimizer.step()
    state = {
        "step": 3,
        "leaves": [leaf.detach()],
        "optimizer": optimizer.state_dict(),
        "none": None,
        "history": [[0.1]],
    }
    back = checkpoint.read(checkpoint.dump(state))
    assert torch.equal(back["leaves"][0], leaf)
    assert torch.equal(back["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert (back["step"], back["none"], back["history"]) == (3, None, [[0.1]])
    torch.optim.Adam([leaf]).load_state_dict(back["optimizer"])
    for broken in (b"", b"\xff" * 100, checkpoint.dump(state)[:-1]):
        with pytest.raises(OuzelError):
            checkpoint.read(broken)


class Real:
    """A runner with the real kinds."""

    def __init__(self, folder: Path, models: Path, forks: ForkServer, datasets: dict[str, Path] | None = None) -> None:
        url = f"sqlite://{folder / 'jobs.db'}"
        self.store: Store = open_store(url)
        self.artifacts = FolderArtifacts(folder / "artifacts")
        told = environment(url, folder, models=models, datasets=datasets or {})
        slots = [Slot("cpu", {"OMP_NUM_THREADS": "1"})]
        self.runner = Runner(self.store, LocalExecutor(folder / "logs", forks), slots, told, options=QUICK)
        self.runner.start()

    def close(self) -> None:
        self.runner.stop()
        self.store.close()

    def run(self, spec: pb.JobSpec) -> Job:
        done = ended(self.store, submit(self.store, spec), 120)
        assert done.state is State.SUCCEEDED, done.error
        return done

    def file(self, job: Job, name: str) -> bytes:
        return self.artifacts.get(self.store.artifact("me", job.id, name).sha256)


@pytest.fixture
def real(tmp_path: Path, lite0_store: Path, forks: ForkServer) -> Real:
    with closing(Real(tmp_path, lite0_store, forks)) as made:
        yield made


@pytest.fixture(params=["spawned", "forked"])
def both(request: pytest.FixtureRequest, tmp_path: Path, lite0_store: Path, forks: ForkServer) -> Iterator[Real]:
    with closing(Real(tmp_path, lite0_store, forks if request.param == "forked" else None)) as made:
        yield made


def test_maximize(both: Real, lite0: Model) -> None:
    """What comes out is what the library gives, and the activation is that of the PNG itself."""
    real = both
    targets = (OUZEL, *channel(of=5))
    done = real.run(asked(targets, 5, images_per_target=2, seed=3))
    names = [each.name for each in real.store.artifacts("me", done.id)]
    assert names == [*(f"images/{n:03}.png" for n in range(4)), "result.json", "sheet.html", "sheet.png", "tensors.npz"]
    nodes = [maximize.ClassLogit("water ouzel"), maximize.Channel("blocks.3", 5)]
    recipe = maximize.make_recipe("fourier", {"steps": 5})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the job: sums of other order soon lead to other images
    expected = maximize.maximize(lite0, nodes, recipe=recipe, images_per_target=2, size=(64, 64), seed=3)
    torch.set_num_threads(threads)
    summary = dict(done.result.summary)
    assert list(summary["activations"]) == pytest.approx([one.activation for one in expected.visualizations], rel=1e-4)
    assert list(summary["titles"]) == [one.title for one in expected.visualizations]
    assert summary["precision"] == "exact"
    picture = np.asarray(Image.open(io.BytesIO(real.file(done, "images/000.png")))) / 255
    assert np.abs(picture.transpose(2, 0, 1) - expected.visualizations[0].image.numpy()).max() <= 1 / 255 + 1e-6
    report = json.loads(real.file(done, "result.json"))
    assert report["found"][3]["file"] == "images/003.png"
    kinds = {each.WhichOneof("kind") for each in real.store.events("me", done.id)}
    assert kinds >= {"progress", "metric", "state_change"}


def test_maximize_with_a_judge_and_photographs(
    tmp_path: Path, lite0: Model, lite0_store: Path, forks: ForkServer
) -> None:
    """The second model is another one of the store; the photographs lie in folders of their classes."""
    store, photos = tmp_path / "store", tmp_path / "photos"
    store.mkdir()
    os.link(lite0_store / f"{MODEL}.mar", store / f"{MODEL}.mar")
    values = {
        name: value * 1.1 if "classifier" in name else value for name, value in lite0.network.state_dict().items()
    }
    torch.save(values, tmp_path / "other.pth")
    archive.create("other", "timm:tf_efficientnet_lite0", tmp_path / "other.pth", "imagenet", store)
    for name, label in (("chelsea", "Egyptian cat"), ("coffee", "espresso")):
        (photos / label).mkdir(parents=True)
        picture = Image.fromarray(getattr(data, name)())
        for number, shown in enumerate((picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
            shown.save(photos / label / f"{number}.png")
    cat = pb.Node(logit=explain_pb2.ClassRef(label="Egyptian cat"))
    spec = asked((cat,), 2, height=0, width=0, judge="other", dataset="mine", path=True)
    pinned = pb.MaximizeSpec()
    pinned.CopyFrom(spec.maximize)
    maximize_kind.pin(pinned, Catalogue(store, tmp_path / "known", isolated=Isolated(forks)))
    with closing(Real(tmp_path, store, forks, {"mine": photos})) as real:
        done = real.run(pb.JobSpec(maximize=pinned))
        (found,) = json.loads(real.file(done, "result.json"))["found"]
        page = real.file(done, "sheet.html").decode()
        picture = Image.open(io.BytesIO(real.file(done, "images/000.png")))
    judge = models.load(store / "other.mar")
    assert pinned.judge_digest == judge.digest != pinned.model_digest
    probability = judge.network(judge.preprocessing(picture)[None]).softmax(1)[0, 285]
    (said,) = done.result.summary["independent"]
    assert said == found["independent"] | {"rank": float(found["independent"]["rank"])}
    assert (said["model"], said["digest"]) == ("other@1", judge.digest)
    assert said["probability"] == pytest.approx(float(probability), rel=1e-3)
    assert "other@1: " in page
    assert found["best_of_data"]["name"].startswith("Egyptian cat/")
    assert found["path"]["photographs"] == found["path"]["others"] == 2
    assert found["path"]["layers"][0]["layer"] == "conv_stem"
    assert "Path, 1 as photographs of the class" in page


def test_maximize_resumes_after_a_kill(real: Real) -> None:
    """A job whose process was killed ends within 1e-5 of one that was left alone."""
    spec = asked((OUZEL,), 30)
    alone = real.run(spec)
    job = submit(real.store, spec)
    until(lambda: real.store.get("me", job.id).progress.step > 5, 60)
    until(lambda: real.store.get("me", job.id).checkpoint != "")
    handle = real.store.leases()[0].handle
    psutil.Process(int(handle.split("/")[1])).kill()
    done = ended(real.store, job, 120)
    assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
    first, second = (np.load(io.BytesIO(real.file(each, "tensors.npz")))["images"] for each in (alone, done))
    assert np.abs(first - second).max() <= 1e-5
    assert list(done.result.summary["activations"]) == pytest.approx(
        list(alone.result.summary["activations"]), rel=1e-5
    )


class Heard:
    """A store that hears one job."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def emit(self, _lease: Lease, events: Sequence[pb.JobEvent]) -> None:
        self.messages += [each.log.message for each in events if each.HasField("log")]


def test_maximize_resumes_with_the_defaults_with_which_it_began(
    lite0: Model, lite0_store: Path, tmp_path: Path
) -> None:
    """Ouzel may have been updated in between. What names no recipe is not gone on with."""
    began = maximize.FourierRecipe(steps=4, decay=1.5, anneal=0.25)
    states: list[Any] = []
    options: dict[str, Any] = {"recipe": began, "size": (64, 64)}
    nodes = [maximize.ClassLogit("water ouzel")]
    whole = maximize.maximize(lite0, nodes, on_step=lambda seen: states.append(seen.state()), **options)
    afresh = maximize.maximize(lite0, nodes, **options | {"recipe": maximize.FourierRecipe(steps=4)})
    unnamed = {name: value for name, value in states[1].items() if name != "recipe"}
    for state, expected, told in ((states[1], whole, 0), (unnamed, afresh, 1)):
        heard = Heard()
        context = JobContext(
            heard,  # type: ignore[arg-type]
            Lease("job-1", 2, "worker"),
            JobEnvironment("", tmp_path, lite0_store, tmp_path),
            checkpoint=checkpoint.dump(state),
            stop=threading.Event(),
        )
        done = maximize_kind.run(asked((OUZEL,), 4).maximize, context)
        (report,) = (json.loads(each.content) for each in done.files if each.name == "result.json")
        assert report["recipe"]["decay"] == expected.recipe.decay  # type: ignore[attr-defined]
        assert list(done.summary["activations"]) == pytest.approx(
            [each.activation for each in expected.visualizations], rel=1e-4
        )
        assert sum("begins again" in each for each in heard.messages) == told


def test_cancel_takes_effect_within_a_step(real: Real) -> None:
    job = submit(real.store, asked((OUZEL,), 100_000))
    until(lambda: real.store.get("me", job.id).progress.step > 0, 60)
    real.store.cancel("me", job.id)
    real.runner.nudge()
    began = time.monotonic()
    assert ended(real.store, job).state is State.CANCELLED
    assert time.monotonic() - began < 5


def test_search_activations(real: Real, lite0: Model) -> None:
    spec = pb.SearchActivationsSpec(model=MODEL, targets=[OUZEL, *channel(of=5)], top_k=2)
    done = real.run(pb.JobSpec(search_activations=spec))
    mean, std = (torch.tensor(v)[:, None, None] for v in (lite0.preprocessing.mean, lite0.preprocessing.std))
    images = [(one.name, (one.x * std + mean).clamp(0, 1)) for one in shipped(lite0.preprocessing)]
    nodes = [maximize.ClassLogit("water ouzel"), maximize.Channel("blocks.3", 5)]
    expected = maximize.search(lite0, nodes, images, top_k=2)
    rankings = done.result.summary["hits"]
    assert [[hit["name"] for hit in ranking] for ranking in rankings] == [[h.name for h in r.hits] for r in expected]
    assert done.result.summary["images"] == 4
    assert done.result.summary["precision"] == "exact"
    assert len([each for each in done.result.artifacts if each.name.startswith("crops/")]) == 4


def test_search_of_an_empty_folder(tmp_path: Path, lite0_store: Path, forks: ForkServer) -> None:
    (tmp_path / "nothing").mkdir()
    with closing(Real(tmp_path, lite0_store, forks, {"mine": tmp_path / "nothing"})) as real:
        spec = pb.SearchActivationsSpec(model=MODEL, targets=[OUZEL], dataset="mine")
        done = ended(real.store, submit(real.store, pb.JobSpec(search_activations=spec)), 120)
    assert (done.state, done.error.failure_class) == (State.FAILED, pb.JobError.USER)
    assert os.fspath(tmp_path) not in done.error.message
