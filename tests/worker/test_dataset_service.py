"""DatasetService over the wire, in a real worker; jobs' rows decide what may be deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from ouzel_protos import manifest
from ouzel_protos.v1 import dataset_pb2 as pb
from ouzel_protos.v1.dataset_pb2_grpc import DatasetServiceStub
from support.datasets import coloured, entries, parts, ref, two_colours
from support.jobs import Worker, worker

Code = grpc.StatusCode
BOB = "bob-has-a-long-token"


class Uploader:
    """Calls of DatasetService with a token."""

    def __init__(self, service: Worker, token: str | None = None) -> None:
        self._stub = DatasetServiceStub(service.channel)
        self._metadata = (("authorization", f"Bearer {token or service.token}"),)

    def __call__(self, name: str, request, seconds: float = 30.0):
        return getattr(self._stub, name)(request, metadata=self._metadata, timeout=seconds)

    def create(self, files: dict[str, bytes], title: str = "") -> pb.Dataset:
        self("UploadFiles", parts(*files.values()))
        return self("CreateDataset", iter([pb.CreateDatasetRequest(title=title, entries=entries(files))]))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("worker")
    tokens = folder / "tokens"
    tokens.write_text(f"bob {BOB}\n")
    with worker(
        f"sqlite://{folder / 'jobs.db'}", folder / "state", "--tokens", str(tokens), "--patience", "1"
    ) as running:
        yield running
        assert running.process.poll() is None, "it has ended by itself"


@pytest.fixture
def call(service: Worker) -> Uploader:
    return Uploader(service)


def refused(call, *arguments) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value


def half_files(service: Worker) -> list[Path]:
    return [path for path in (service.log.parent / "datasets").rglob("incoming/*") if path.is_file()]


def test_the_whole_way(call, service):
    files = two_colours(5)
    asked = pb.FindMissingRequest(files=[ref(content) for content in files.values()])
    assert len(call("FindMissing", asked).sha256) == len(files)
    first = dict(list(files.items())[:4])
    answer = call("UploadFiles", parts(*first.values()))
    assert (answer.files, answer.bytes) == (4, sum(map(len, first.values())))
    missing = set(call("FindMissing", asked).sha256)
    assert missing == {ref(content).sha256 for content in files.values()} - {ref(c).sha256 for c in first.values()}
    call("UploadFiles", parts(*(content for content in files.values() if ref(content).sha256 in missing)))
    listed = entries(files)
    requests = [pb.CreateDatasetRequest(title="colours", entries=listed[:3], id=manifest.digest(listed))]
    made = call("CreateDataset", iter([*requests, pb.CreateDatasetRequest(entries=listed[3:])]))
    assert made.id == manifest.digest(listed)
    assert call("GetDataset", pb.GetDatasetRequest(id=made.id)) == made
    assert made in call("ListDatasets", pb.ListDatasetsRequest()).datasets
    report = call("CheckDataset", pb.CheckDatasetRequest(id=made.id), 120)
    assert report.usable
    assert dict(report.classes) == {"blue": 5, "red": 5}
    bob = Uploader(service, BOB)
    for name, request in (
        ("GetDataset", pb.GetDatasetRequest(id=made.id)),
        ("DeleteDataset", pb.DeleteDatasetRequest(id=made.id)),
        ("CheckDataset", pb.CheckDatasetRequest(id=made.id)),
    ):
        assert refused(bob, name, request).code() == Code.NOT_FOUND
    assert made not in bob("ListDatasets", pb.ListDatasetsRequest()).datasets
    call("DeleteDataset", pb.DeleteDatasetRequest(id=made.id))
    assert refused(call, "GetDataset", pb.GetDatasetRequest(id=made.id)).code() == Code.NOT_FOUND


def test_pages(call):
    made = {
        call.create({f"{a}/{n}.png": coloured(c, 100 + n) for a, c in (("x", 0), ("y", 1)) for n in range(k)}).id
        for k in (2, 3, 4)
    }
    seen, token = [], ""
    while True:
        page = call("ListDatasets", pb.ListDatasetsRequest(page_size=1, page_token=token))
        seen += [each.id for each in page.datasets]
        if not (token := page.next_page_token):
            break
    assert made <= set(seen)
    assert len(seen) == len(set(seen))
    assert refused(call, "ListDatasets", pb.ListDatasetsRequest(page_token="x")).code() == Code.INVALID_ARGUMENT
    assert refused(call, "ListDatasets", pb.ListDatasetsRequest(page_size=501)).code() == Code.INVALID_ARGUMENT
    for each in made:
        call("DeleteDataset", pb.DeleteDatasetRequest(id=each))


def swapped(content: bytes) -> Iterator[pb.UploadFilesRequest]:
    first, *chunks = parts(content, chunk=1000)
    yield from (first, chunks[1], chunks[0], *chunks[2:])


def doubled(content: bytes) -> Iterator[pb.UploadFilesRequest]:
    first, *chunks = parts(content, chunk=1000)
    yield from (first, chunks[0], chunks[0], *chunks[1:])


def relabelled(content: bytes, **wrong) -> Iterator[pb.UploadFilesRequest]:
    _, *chunks = parts(content)
    file = ref(content)
    file.MergeFrom(pb.FileRef(**wrong))
    yield pb.UploadFilesRequest(file=file)
    yield from chunks


BIG = coloured(1, 7, size=64)


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        (lambda: swapped(BIG), "goes on at 0"),
        (lambda: doubled(BIG), "goes on at 1000"),
        (lambda: relabelled(BIG, sha256="0" * 64), "the bytes have"),
        (lambda: relabelled(BIG, size=len(BIG) + 1), "ended after"),
        (lambda: relabelled(BIG, size=len(BIG) - 1), "has more than"),
        (lambda: relabelled(BIG, size=2**40), "size"),
        (lambda: relabelled(BIG, sha256="../../x"), "sha256"),
        (lambda: iter([pb.UploadFilesRequest(chunk=pb.Chunk(data=b"x"))]), "no file was begun"),
        (lambda: iter([pb.UploadFilesRequest()]), "no file was begun"),
    ],
)
def test_bad_uploads_are_refused_and_leave_nothing(call, service, requests, said):
    error = refused(call, "UploadFiles", requests())
    assert error.code() == Code.INVALID_ARGUMENT
    assert said in error.details()
    assert not half_files(service)
    assert call("FindMissing", pb.FindMissingRequest(files=[ref(BIG)])).sha256


def test_a_stalled_upload_is_ended_and_what_was_whole_stays(call, service):
    whole, half = coloured(2, 50), coloured(2, 51)

    def stalled() -> Iterator[pb.UploadFilesRequest]:
        yield from parts(whole)
        yield from list(parts(half, chunk=100))[:2]
        time.sleep(20)

    error = refused(call, "UploadFiles", stalled())
    assert error.code() == Code.DEADLINE_EXCEEDED
    assert "nothing came for 1 s" in error.details()
    assert not half_files(service)
    missing = call("FindMissing", pb.FindMissingRequest(files=[ref(whole), ref(half)])).sha256
    assert list(missing) == [ref(half).sha256]


def test_a_connection_that_is_cut_leaves_nothing_half(call, service):
    content = coloured(2, 52)

    def endless() -> Iterator[pb.UploadFilesRequest]:
        yield from list(parts(content, chunk=100))[:3]
        time.sleep(5)

    refused(lambda: call("UploadFiles", endless(), 0.3))
    deadline = time.monotonic() + 10
    while half_files(service) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not half_files(service)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ([], "no image"),
        (entries({"a/1.png": b"x", "a/2.png": b"y"}), "only the class 'a'"),
        (entries({"../a/1.png": b"x", "b/2.png": b"y"}), "is not a relative path"),
    ],
)
def test_manifests_that_nothing_can_be_learnt_from(call, listed, said):
    error = refused(call, "CreateDataset", iter([pb.CreateDatasetRequest(entries=listed)]))
    assert error.code() == Code.INVALID_ARGUMENT
    assert said in error.details()


def test_a_million_images_are_too_many_and_cost_no_memory(call, service):
    part = [pb.DatasetEntry(path=f"a/{n}.png", label="a", file=ref(b"x")) for n in range(10_000)]
    request = pb.CreateDatasetRequest(entries=part)
    before = psutil.Process(service.process.pid).memory_info().rss
    error = refused(call, "CreateDataset", (request for _ in range(100)), 120)
    assert error.code() == Code.INVALID_ARGUMENT
    assert "more than 200000 images" in error.details()
    assert psutil.Process(service.process.pid).memory_info().rss - before < 300 * 2**20


def test_files_that_were_not_sent_are_named(call):
    error = refused(
        call, "CreateDataset", iter([pb.CreateDatasetRequest(entries=entries({"a/1.png": b"1", "b/2.png": b"2"}))])
    )
    assert error.code() == Code.FAILED_PRECONDITION
    assert "'a/1.png'" in error.details()


def test_no_token_no_upload(service):
    stranger = Uploader(service, "nobody-knows-this-token")
    error = refused(stranger, "UploadFiles", parts(b"x"))
    assert error.code() == Code.UNAUTHENTICATED
