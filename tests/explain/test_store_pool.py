"""TorchServe's handler of the pool: rows that name their model in every form, and rows that do not."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from handlers.pool_handler import PoolHandler
from ouzel import serving
from ouzel.errors import FailedPrecondition
from ouzel.explain.pool import PoolService
from ouzel.explain.pool.hosted import StorePool
from ouzel.model_file import ModelFile
from ouzel.models.store import ModelStore
from ouzel_protos.v1 import explain_pb2 as pb
from support.gateway import pictures, png
from support.heads import backbone, publish_head

IMAGE = png(pictures(1)[0])
TEXT = base64.b64encode(IMAGE).decode()


class Context:
    """TorchServe's, as far as the handler looks at it."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self.status: dict[int, int] = {}

    def get_all_request_header(self, _index: int) -> dict[str, str]:
        return self._headers

    def set_response_content_type(self, _index: int, _media_type: str) -> None: ...

    def set_response_status(self, code: int, idx: int) -> None:
        self.status[idx] = code


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def files(store: ModelStore) -> list[ModelFile]:
    return [publish_head(store, backbone(), classes, classes) for classes in (3, 4)]


@pytest.fixture(scope="module")
def handler(store: ModelStore, files: list[ModelFile]) -> Iterator[PoolHandler]:
    handler = PoolHandler()
    handler.pool = StorePool(store.folder, PoolService(threads=1))
    handler.pool.begin()
    yield handler
    handler.pool.pool.close()


def ask(handler: PoolHandler, *rows: dict[str, Any], **headers: str) -> tuple[list[pb.Explanation], list[int]]:
    context = Context(headers)
    bodies = handler.handle(list(rows), context)
    return [pb.Explanation.FromString(body) for body in bodies], [context.status[index] for index in range(len(rows))]


def test_a_row_names_its_model_in_every_form(handler: PoolHandler, files: list[ModelFile]) -> None:
    document = {"model": "tuned", "version": "2", "image": TEXT, "options": {"top_k": 1}}
    rows: list[dict[str, Any]] = [
        {"model": b"tuned", "version": b"2", "image": IMAGE, "options": b'{"top_k": 1}'},
        {"model": "tuned", "version": bytearray(b"2"), "digest": files[1].digest.encode(), "image": bytearray(IMAGE)},
        {"body": document},
        {"body": json.dumps(document).encode()},
    ]
    answers, statuses = ask(handler, *rows)
    assert statuses == [200] * 4
    assert {answer.model.weights_digest for answer in answers} == {files[1].digest}
    assert len({answer.scores[0].logit for answer in answers}) == 1
    (plain,), _ = ask(handler, {"model": b"tuned", "image": IMAGE})
    assert plain.model.version == "1"  # the default


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ({}, 400),
        ({"model": b""}, 400),
        ({"model": b"\xff"}, 400),
        ({"model": ["tuned"]}, 400),
        ({"model": b"../store/tuned"}, 400),
        ({"model": b"tuned@1"}, 400),
        ({"model": b"tuned", "version": b"../1"}, 400),
        ({"model": b"tuned", "version": b"/etc"}, 400),
        ({"model": b"OUZEL-POOL"}, 400),
        ({"model": b"other"}, 404),
        ({"model": b"tuned", "version": b"3"}, 404),
        ({"model": b"tuned", "version": b"2", "digest": b"sha256:0"}, 503),
    ],
)
def test_a_row_that_names_no_model_is_refused_alone(handler: PoolHandler, address: Any, status: int) -> None:
    answers, statuses = ask(handler, {**address, "image": IMAGE}, {"model": b"tuned", "image": IMAGE})
    assert statuses == [status, 200]
    assert answers[0].error.message
    assert "tuned 1" not in answers[0].error.message
    assert not answers[0].scores
    assert answers[1].scores


def test_who_only_estimates_needs_to_name_none(handler: PoolHandler) -> None:
    """So TorchServe's processes are asked whether they are well."""
    (answer,), statuses = ask(handler, {"image": IMAGE, "options": b'{"estimate_only": true}'})
    assert statuses == [200]
    assert answer.estimate.passes == 1
    assert not answer.scores


def test_refusals_of_a_row_come_in_the_form_that_it_asked_for(handler: PoolHandler) -> None:
    context = Context({"host": "here", "accept": "application/json"})
    (body,) = handler.handle([{"body": {"model": "nobody", "image": TEXT}}], context)
    assert json.loads(body)["error"]["code"] == "NOT_FOUND"
    (body,) = handler.handle([{"body": b'{"model": "tuned", "picture": 1}'}], context)
    assert "allowed are image, tensor, options, model, version, digest" in json.loads(body)["error"]["message"]


def test_metrics_are_those_that_are_declared(
    store: ModelStore, files: list[ModelFile], capsys: pytest.CaptureFixture[str]
) -> None:
    handler = PoolHandler()
    handler.pool = StorePool(store.folder, PoolService(threads=1, memory_bytes=1))
    for version in (b"1", b"2", b"2"):
        ask(handler, {"model": b"tuned", "version": version, "image": IMAGE})
    pattern = re.compile(
        r"\[METRICS\](\w+)\.(\w+):([0-9.]+)\|#ModelName:OUZEL-POOL,ModelVersion:1(?:,\w+:\w+)?\|#type:(\w+)\|#hostname:.*"
    )
    found = [match.groups() for line in capsys.readouterr().out.splitlines() if (match := pattern.fullmatch(line))]
    declared = yaml.safe_load(Path(serving.__file__).with_name("metrics.yaml").read_text())["model_metrics"]
    kinds = {each["name"]: (each["unit"], kind.upper()) for kind, entries in declared.items() for each in entries}
    assert {name for name, *_ in found} == set(kinds) - {"ouzel_explain_gpu_bytes"}
    assert all(kinds[name] == (unit, kind) for name, unit, _, kind in found)
    sums = {name: sum(float(value) for one, _, value, _ in found if one == name) for name in kinds}
    assert (sums["ouzel_pool_hits_total"], sums["ouzel_pool_misses_total"]) == (1, 2)
    assert sums["ouzel_pool_evictions_total"] == 1


def test_a_store_of_which_nothing_can_be_loaded_is_told(tmp_path: Path) -> None:
    file = publish_head(ModelStore(tmp_path), backbone(), 3, 1)
    content = bytearray(file.path.read_bytes())
    content[len(content) // 2] ^= 1
    file.path.write_bytes(content)
    with pytest.raises(FailedPrecondition, match=r"no model of .* can be loaded"):
        StorePool(tmp_path, PoolService(threads=1)).begin()
