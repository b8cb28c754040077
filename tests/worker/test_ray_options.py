"""What an operator says of a Ray cluster, and what is refused in words before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.worker import kinds
from ouzel.worker.options import WorkerOptions, slots
from ouzel.worker.processes import shared_folders
from ouzel.worker.processes.ray_options import RayOptions, Resources, resources

_STORE = "postgresql://ouzel@db/ouzel"


def test_resources() -> None:
    given = ["finetune:gpus=1,cpus=4,memory=1.5GiB", "maximize:gpus=0.5", "*:cpus=2"]
    options = RayOptions(resources=resources(given, kinds.NAMES))
    assert options.of("finetune") == Resources(cpus=4, gpus=1, memory=3 * 2**29)
    assert options.of("maximize") == Resources(cpus=1, gpus=0.5)
    assert options.of("search_activations") == Resources(cpus=2)
    assert RayOptions().of("finetune") == Resources(cpus=1, gpus=0, memory=0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("finetune", "not of the form"),
        ("finetune:", "not of the form"),
        ("finetunes:gpus=1", "did you mean 'finetune'"),
        ("finetune:gpu=1", "did you mean 'gpus'"),
        ("finetune:gpus=1,gpus=2", "not of the form"),
        ("finetune:gpus=one", "is not a number"),
        ("finetune:gpus=nan", "ray_resources"),
        ("finetune:gpus=-1", "ray_resources"),
        ("finetune:gpus=1.5", "neither a whole number nor a share"),
        ("finetune:cpus=0", "ray_resources"),
        ("finetune:memory=16", "not a size"),
        ("finetune:memory=16GB", "not a size"),
    ],
)
def test_resources_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        resources([text], kinds.NAMES)
    assert caught.value.field == "ray_resources"


def test_a_kind_comes_once() -> None:
    with pytest.raises(InvalidArgument, match="comes twice"):
        resources(["*:cpus=1", "*:cpus=2"], kinds.NAMES)


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "http://", "http://me:secret@head:8265", ""])
def test_addresses_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="ray_address"):
        RayOptions(address=address)


@pytest.mark.parametrize(
    ("store", "artifacts", "field"),
    [
        ("", Path("/shared"), "jobs"),
        ("sqlite:///shared/jobs.db", Path("/shared"), "jobs"),
        ("postgresql://ouzel:secret@db/ouzel", Path("/shared"), "jobs"),
        ("postgresql://db/ouzel?user=ouzel&password=secret", Path("/shared"), "jobs"),
        (_STORE, None, "artifacts"),
    ],
)
def test_what_nodes_cannot_reach_is_refused(tmp_path: Path, store: str, artifacts: Path | None, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        WorkerOptions(state=tmp_path, store=store, artifacts=artifacts, ray=RayOptions())
    assert caught.value.field == field
    assert "secret" not in str(caught.value)
    WorkerOptions(state=tmp_path, store=store, artifacts=artifacts)  # one machine: as ever


def test_what_jobs_are_told(tmp_path: Path) -> None:
    here = WorkerOptions(state=tmp_path, store=_STORE, artifacts=tmp_path / "files")
    there = WorkerOptions(state=tmp_path, store=_STORE, artifacts=tmp_path / "files", ray=RayOptions(), slots=3)
    named = WorkerOptions(
        state=tmp_path, store=_STORE, artifacts=tmp_path / "files", ray=RayOptions(), serving_state=tmp_path / "shared"
    )
    assert here.environment.serving
    assert there.environment.serving is None  # the worker's own state folder is not theirs
    assert named.environment.serving == {"state": str(tmp_path / "shared"), "named": "yes"}
    assert [dict(each.environment) for each in slots(there)] == [{}, {}, {}]


def test_marks(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    marks = shared_folders.mark([one, other])
    assert shared_folders.mark([one, other]) == marks  # of another worker
    assert [each.name for each in one.iterdir()] == [".ouzel-shared"]
    shared_folders.check(marks)
    with pytest.raises(FailedPrecondition, match=f"{one} on this node is not the folder"):
        shared_folders.check({str(one): marks[str(other)]})
    with pytest.raises(FailedPrecondition, match="is not seen on this node"):
        shared_folders.check({str(tmp_path / "none"): marks[str(one)]})


def test_marks_need_a_folder_that_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="cannot be marked"):
        shared_folders.mark([tmp_path / "file" / "one"])
