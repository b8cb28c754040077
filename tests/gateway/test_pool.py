"""Versions that share a backbone, behind the gateway: in its own process, and in a real TorchServe with a pool."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from PIL import Image

from ouzel import models, serving
from ouzel.errors import InvalidArgument, NotFound
from ouzel.gateway.engine import Engine, Row
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.engines.torchserve import TorchServeEngine, local
from ouzel.model_file import ModelFile
from ouzel.model_names import POOL
from ouzel.models.store import ModelStore
from ouzel.serving import Ports, ServingOptions, saved_options
from ouzel.torchserve import management, publication, rest
from ouzel.torchserve.archives import check
from ouzel.torchserve.server import Server
from ouzel_protos.local import read_serving, token
from ouzel_protos.v1 import explain_pb2 as pb
from support.gateway import pictures, png, write_store
from support.heads import backbone, publish_head

T = TypeVar("T")
CLASSES = (3, 5, 1, 8)
SHOT = pictures(1)[0]


def within(make: Callable[[], Engine], use: Callable[[Engine], Awaitable[T]]) -> T:
    """What `use` gives, with an engine that was started and is stopped."""

    async def run() -> T:
        engine = make()
        await engine.start()
        try:
            while not await engine.ready():
                await asyncio.sleep(0.01)
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def row(**options: object) -> Row:
    return Row(image=png(SHOT), options=pb.ExplainOptions(**options))  # type: ignore[arg-type]


def logits(file: ModelFile) -> list[float]:
    """By the network alone."""
    model = models.load(file.path)
    with torch.no_grad():
        values: list[float] = model.network(model.preprocessing(Image.fromarray(SHOT))[None])[0].tolist()
    return values


def assert_of(answer: pb.Explanation, file: ModelFile) -> None:
    assert not answer.HasField("error"), answer.error
    assert (answer.model.name, answer.model.weights_digest) == (file.name, file.digest)
    expected = logits(file)
    assert [score.logit for score in answer.scores] == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    store = ModelStore(write_store(tmp_path_factory.mktemp("store")))  # "toy" 1 and 2
    for seed, classes in enumerate(CLASSES):
        publish_head(store, backbone(), classes, seed)
    return store


def test_rows_of_several_versions_are_computed_together(store: ModelStore) -> None:
    files = store.of("tuned")

    async def use(engine: Engine) -> list[list[pb.Explanation]]:
        assert isinstance(engine, InProcessEngine)
        twice, deadline = [file for file in files for _ in range(2)], time.monotonic() + 60
        asked = [engine.predict(file.name, file.version, [row(top_k=file.classes)] * 2, deadline) for file in twice]
        answers = await asyncio.gather(*asked)
        statistics = engine.statistics()
        assert statistics is not None
        assert (statistics.networks, statistics.heads) == (2, 5)  # toy has its own; its version 2 was not asked
        return answers

    answers = within(lambda: InProcessEngine(store.folder), use)
    for number, pair in enumerate(answers):
        for answer in pair:
            assert_of(answer, files[number // 2])
    assert max(answer.timing.batch_size for pair in answers for answer in pair) > 4  # of one version there are four


def test_what_is_asked_more_than_memory_holds_is_answered_in_turn(store: ModelStore) -> None:
    files = [*store.of("tuned")[:2], store.file("toy")]

    async def use(engine: Engine) -> list[pb.Explanation]:
        deadline = time.monotonic() + 60
        return [
            (await engine.predict(file.name, file.version, [row(top_k=file.classes)], deadline))[0]
            for file in files * 2
        ]

    for answer, file in zip(within(lambda: InProcessEngine(store.folder, memory_bytes=1), use), files * 2, strict=True):
        assert_of(answer, file)


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="models: a pool serves all of the store"):
        ServingOptions(pool=True, models=("toy",))
    for wrong in ({"pins": ("toy",)}, {"pool_memory_mb": 5}):
        with pytest.raises(InvalidArgument, match="is for a pool"):
            ServingOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="pool_memory_mb is 0"):
        ServingOptions(pool=True, pool_memory_mb=0)
    with pytest.raises(InvalidArgument, match="is the name of the pool"):
        check(POOL, tmp_path / f"{POOL}.mar")
    options = ServingOptions(pool=True, pins=("toy",), pool_memory_mb=512, state=tmp_path)
    saved_options.write(options)
    assert saved_options.read(tmp_path) == options


@pytest.fixture(scope="module")
def served(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = tmp_path_factory.mktemp("state")
    options = ServingOptions(
        store=store.folder, state=state, ports=Ports.free(), threads=1, pool=True, pins=("toy",), loaded_versions=1
    )
    with serving.start(options):
        yield state


@pytest.mark.e2e
def test_the_pool_of_a_real_torchserve_answers_for_what_has_no_processes(store: ModelStore, served: Path) -> None:
    files = [*store.of("tuned"), *store.of("toy")]
    server = Server.local(served)
    assert server is not None
    assert management.served(server) == {(POOL, "1"), ("toy", "1")}

    async def use(engine: Engine) -> tuple[list[list[pb.Explanation]], list[str]]:
        deadline = time.monotonic() + 60
        answers = await asyncio.gather(
            *(engine.predict(file.name, file.version, [row(top_k=file.classes)], deadline) for file in files)
        )
        for model, version in (("tuned", "9"), ("nobody", ""), (POOL, ""), (POOL, "1")):
            with pytest.raises(NotFound):
                await engine.predict(model, version, [row()], deadline)
        return answers, [f"{one.name} {one.version}" for one in await engine.models()]

    answers, names = within(lambda: TorchServeEngine(local(served)), use)
    for (answer,), file in zip(answers, files, strict=True):
        assert_of(answer, file)
    assert sorted(names) == sorted(f"{file.name} {file.version}" for file in files)
    status = serving.status(served)
    assert status is not None
    assert not status.troubles


@pytest.mark.e2e
def test_a_published_version_is_tried_and_answered_by_the_pool(store: ModelStore, served: Path) -> None:
    server = Server.local(served)
    told: list[tuple[str, bool]] = []
    good, bad = (publish_head(store, backbone(4), 4, seed, "fresh") for seed in (1, 2))
    assert publication.publish_model(
        server, store, "fresh", "1", promote=True, record=lambda kind, facts: told.append((kind, "undone" in facts))
    )
    assert told == [("publication", False), ("promotion", False)]
    assert store.default("fresh") == "1"
    content = bytearray(bad.path.read_bytes())
    content[len(content) // 2] ^= 1
    bad.path.write_bytes(content)
    with pytest.raises((publication.PublicationFailed, InvalidArgument)):
        publication.publish_model(server, store, "fresh", "2", withdraw_failed=True)
    assert [file.version for file in store.of("fresh")] == ["1"]

    async def use(engine: Engine) -> pb.Explanation:
        return (await engine.predict("fresh", "", [row(top_k=4)], time.monotonic() + 60))[0]

    assert_of(within(lambda: TorchServeEngine(local(served)), use), good)
    publication.withdraw_served(server, store, store.file("fresh@1"))
    with pytest.raises(NotFound):
        within(lambda: TorchServeEngine(local(served)), use)


@pytest.mark.e2e
def test_the_pool_says_what_it_holds(served: Path) -> None:
    record = read_serving(served)
    assert record is not None
    key = token(record["key_file"], "inference")
    body = b'{"model": "../toy", "image": "AAAA"}'
    status, answer = rest.call("POST", f"{record['rest']}/predictions/{POOL}", key, body=body, kind="application/json")
    assert (status, b"INVALID_ARGUMENT" in answer) == (400, True)
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name, more, value)
        for name, more, value in (
            (b"model", b"", b"tuned"), (b"version", b"", b"2"), (b"image", b'; filename="cat.png"', png(SHOT))
        )
    ) + b"--x--\r\n"  # fmt: skip
    kind = "multipart/form-data; boundary=x"
    status, answer = rest.call("POST", f"{record['rest']}/predictions/{POOL}", key, body=form, kind=kind)
    assert (status, json.loads(answer)["model"]["version"]) == (200, "2")
    _, metrics = rest.call("GET", f"{record['metrics']}/metrics", key)
    for name in ("networks", "heads", "bytes", "hits_total", "misses_total"):
        assert f'\nouzel_pool_{name}{{ModelName="{POOL}"'.encode() in metrics
