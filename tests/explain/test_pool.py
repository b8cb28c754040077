"""A pool answers as services of their own answer, however its models share networks, come and go."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ouzel import models
from ouzel.errors import DataLoss, NotFound
from ouzel.explain import ExplainService, RawRequest, Reply
from ouzel.explain.pool import PoolService
from ouzel.explain.pool import service as pool_service
from ouzel.explain.pool.network import Network
from ouzel.model_file import ModelFile
from ouzel.models import archive
from ouzel.models.store import ModelStore
from ouzel.saliency import METHODS
from ouzel.saliency.engine import memory_format
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from support.gateway import pictures, png
from support.heads import PREPROCESSING, backbone, publish_head

CLASSES = (5, 2, 1, 9)
FEW: dict[str, dict[str, int]] = {
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"steps": 3},
    "rise": {"masks": 24},
    "occlusion": {"window": 32, "stride": 32},
}


@pytest.fixture(scope="module", autouse=True)
def _one_format() -> Iterator[None]:
    """What is faster is measured for each number of classes; another format rounds otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_format, "_measured", lambda *_: "contiguous")
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(tmp_path_factory.mktemp("pool-store"))


@pytest.fixture(scope="module")
def files(store: ModelStore) -> list[ModelFile]:
    state = backbone()
    return [publish_head(store, state, classes, seed) for seed, classes in enumerate(CLASSES)]


@pytest.fixture(scope="module")
def pool(files: list[ModelFile]) -> Iterator[PoolService]:
    pool = PoolService(threads=1)
    for file in files:
        pool.load(file)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def services(files: list[ModelFile]) -> list[ExplainService]:
    return [own(file) for file in files]


def own(file: ModelFile) -> ExplainService:
    return ExplainService(models.load(file.path), threads=1)


def request(seed: int = 0, **options: Any) -> RawRequest:
    return RawRequest(image=png(pictures(1, seed)[0]), options=json.dumps(options))


def envelope(reply: Reply) -> pb.Explanation:
    reply.envelope.ClearField("timing")
    return reply.envelope


def assert_close(got: Reply, expected: Reply) -> None:
    """All the same, but for float32's rounding in numbers."""
    ours, theirs = envelope(got), envelope(expected)
    assert not theirs.HasField("error"), theirs.error
    for one, other in zip(ours.scores, theirs.scores, strict=True):
        assert (one.index, one.label) == (other.index, other.label)
        assert (one.logit, one.probability) == pytest.approx((other.logit, other.probability), rel=1e-5, abs=1e-5)
    for mine, wanted in zip(ours.saliency, theirs.saliency, strict=True):
        values, right = tensors.decode(mine.values), tensors.decode(wanted.values)
        np.testing.assert_allclose(values, right, atol=1e-4 * float(np.abs(right).max()))
        assert dict(mine.measures) == pytest.approx(dict(wanted.measures), rel=1e-2, abs=1e-5)
        for message in (mine, wanted):
            for field in ("values", "minimum", "maximum", "measures"):
                message.ClearField(field)
        assert mine == wanted
    for message in (ours, theirs):
        message.ClearField("scores")
        message.ClearField("saliency")
    assert ours == theirs


def asking(method: str, classes: int) -> list[dict[str, Any]]:
    """Maps of every kind of target that so many classes permit, the wrong ones of mixing heads up among them."""
    base = {"method": method, **FEW.get(method, {})}
    wishes: list[dict[str, Any]] = [dict(base), {**base, "target": classes - 1}]
    if classes > 1:
        wishes.append({**base, "target": {"contrast": [classes - 1, 0]}})
        wishes.append({**base, "target": {"rank": classes - 1}})
    if method == "gradient":
        wishes.append({**base, "faithfulness": 3, "reduction": "signed_sum"})
    return wishes


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_several_models_is_answered_as_by_each(
    method: str, pool: PoolService, files: list[ModelFile], services: list[ExplainService]
) -> None:
    which = [3, 0, 2, 1, 0, 3]
    asked = [request(seed, top_k=1, saliency=asking(method, CLASSES[one])) for seed, one in enumerate(which)]
    replies = pool.answer([(files[one], each) for one, each in zip(which, asked, strict=True)])
    assert {reply.envelope.timing.batch_size for reply in replies} == {len(which)}
    assert any(tensors.decode(one.values).any() for reply in replies for one in reply.envelope.saliency)
    for one, each, reply in zip(which, asked, replies, strict=True):
        assert_close(reply, services[one].answer([each])[0])


@pytest.mark.parametrize("one", range(len(CLASSES)))
def test_a_batch_of_one_model_is_answered_with_the_same_bytes(
    one: int, pool: PoolService, files: list[ModelFile], services: list[ExplainService]
) -> None:
    maps = [wish for method in METHODS for wish in asking(method, CLASSES[one])]
    asked = [request(seed, top_k=CLASSES[one], saliency=maps[:30]) for seed in range(2)]
    replies = pool.answer([(files[one], each) for each in asked])
    expected = services[one].answer(asked)
    assert [envelope(reply) for reply in replies] == [envelope(reply) for reply in expected]
    assert not replies[0].envelope.HasField("error")


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 6},
        {"saliency": [{"method": "gradient", "target": 6}]},
        {"saliency": [{"method": "gradient", "target": {"top": 3}}]},
        {"saliency": [{"method": "gradient", "target": "class 3 8"}]},
        {"saliency": [{"method": "grad_cam", "layer": "fc"}]},
        {"saliency": [{"method": "grad_cam", "layer": "nowhere"}]},
        {"saliency": ["gradient"], "when": {"labels": ["class 1 1"]}},
        {"saliency": ["gradient"], "when": {"score_below": 0.6, "entropy_above": 0.1}},
        {"saliency": ["grad_cam"], "estimate_only": True},
        {"saliency": [{"method": "rise", "masks": 9000}]},
        {"saliency": ["gradient"], "timeout": -1},
    ],
)
def test_refusals_and_conditions_are_those_of_each_model(
    options: dict[str, Any], pool: PoolService, files: list[ModelFile], services: list[ExplainService]
) -> None:
    asked = [request(seed, **options) for seed in range(len(files))]
    replies = pool.answer(list(zip(files, asked, strict=True)))
    for reply, service, each in zip(replies, services, asked, strict=True):
        expected = service.answer([each])[0]
        assert reply.http == expected.http
        if expected.envelope.scores:
            assert_close(reply, expected)
        else:
            assert envelope(reply) == envelope(expected)


def test_models_differ_in_how_they_cut_pictures(tmp_path: Path) -> None:
    state, store = backbone(), ModelStore(tmp_path)
    ways = [
        PREPROCESSING,
        dataclasses.replace(PREPROCESSING, resize=72, interpolation="bicubic"),
        dataclasses.replace(PREPROCESSING, mean=(0.1, 0.2, 0.3)),
        dataclasses.replace(PREPROCESSING, input_size=(72, 64), resize=72),
    ]
    files = [publish_head(store, state, 3, seed, preprocessing=way) for seed, way in enumerate(ways)]
    pool = PoolService(threads=1)
    wanted = request(saliency=["gradient"], top_k=3)
    for file, reply in zip(files, pool.answer([(file, wanted) for file in files]), strict=True):
        assert_close(reply, own(file).answer([wanted])[0])
    assert pool.statistics().networks == 3  # the first two see the same pixels' values


def test_a_cold_head_needs_its_archive_alone(
    pool: PoolService, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pool.statistics()
    file = publish_head(store, backbone(), 7, 70)
    monkeypatch.setattr(pool_service.models, "load", lambda *_, **__: pytest.fail("it read the backbone again"))
    (reply,) = pool.answer([(file, request(top_k=7))])
    after = pool.statistics()
    assert len(reply.envelope.scores) == 7
    assert (after.networks, after.heads, after.misses) == (before.networks, before.heads + 1, before.misses + 1)
    held = archive.read(file.path)[2]
    head = sum(tensor.nbytes for name, tensor in held.items() if name.startswith("fc."))
    assert head < after.bytes - before.bytes < head + 2**18


def test_networks_are_counted_by_their_tensors(files: list[ModelFile]) -> None:
    pool = PoolService(threads=1)
    pool.load(files[0])
    network = models.load(files[0].path).network
    tensors_of_it = sum(each.nbytes for each in (*network.parameters(), *network.buffers()))
    assert 1.5 * tensors_of_it < pool.statistics().bytes < 2.5 * tensors_of_it  # as it is, and prepared


def test_what_states_the_same_base_but_differs_in_a_bit_shares_nothing(tmp_path: Path) -> None:
    store, state = ModelStore(tmp_path), backbone()
    name = next(name for name, tensor in state.items() if tensor.ndim == 4)
    other = {**state, name: state[name].clone()}
    value = other[name].flatten()
    value.view(torch.int32)[0] ^= 1  # the lowest bit of one weight
    files = [publish_head(store, state, 3, 1), publish_head(store, other, 3, 1, "other")]
    assert len({json.dumps(models.load(file.path).card["lineage"]["base_digest"]) for file in files}) == 1
    pool = PoolService(threads=1)
    served = [pool.load(file) for file in files]
    assert served[0].explainer is not served[1].explainer
    assert pool.statistics().networks == 2


def test_weights_that_are_not_those_of_the_card_are_refused_and_the_others_answered(
    tmp_path: Path, files: list[ModelFile], pool: PoolService
) -> None:
    store = ModelStore(tmp_path)
    damaged, cut, gone = (publish_head(store, backbone(), 3, seed) for seed in (1, 2, 3))
    content = bytearray(damaged.path.read_bytes())
    content[len(content) // 2] ^= 1  # in a tensor of the backbone
    damaged.path.write_bytes(content)
    cut.path.write_bytes(cut.path.read_bytes()[:-40_000])
    gone.path.unlink()
    asked = [request(seed, top_k=1) for seed in range(5)]
    replies = pool.answer(list(zip([damaged, files[0], cut, gone, files[1]], asked, strict=True)))
    codes = [reply.envelope.error.code for reply in replies]
    assert codes == [pb.Error.DATA_LOSS, 0, pb.Error.DATA_LOSS, pb.Error.NOT_FOUND, 0]
    assert [replies[number].http for number in (0, 2)] == [500, 500]
    assert [reply.envelope.model.name for reply in replies] == ["tuned"] * 5
    assert all(reply.envelope.scores for reply in (replies[1], replies[4]))
    assert not any(str(store.folder) in reply.envelope.error.message for reply in replies)
    with pytest.raises(DataLoss) as caught:
        pool.load(damaged)
    assert str(store.folder) not in str(caught.value)
    with pytest.raises(NotFound):
        pool.find(gone)


def test_an_archive_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    store, pool = ModelStore(tmp_path), PoolService(threads=1)
    file, other = publish_head(store, backbone(), 3, 1), publish_head(store, backbone(), 4, 2)
    before = envelope(pool.answer([(file, request(top_k=1))])[0])
    card, _, state = archive.read(other.path)
    archive.write(dataclasses.replace(card, version=file.version), state, file.path)
    after = envelope(pool.answer([(file, request(top_k=1))])[0])
    assert after.model.weights_digest == card.digest != before.model.weights_digest
    assert after.scores[0].label in card.labels
    statistics = pool.statistics()
    assert (statistics.networks, statistics.heads, statistics.evictions) == (1, 1, 0)


def test_what_makes_room_still_answers_those_who_wait_for_it(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    first, second = publish_head(store, backbone(1), 3, 1), publish_head(store, backbone(2), 3, 2, "other")
    sibling = publish_head(store, backbone(1), 4, 3)
    pool = PoolService(threads=1, memory_bytes=1)  # one network with one model
    waiting = pool.load(first)
    pool.load(sibling)
    assert (pool.statistics().networks, pool.statistics().heads, pool.statistics().evictions) == (1, 1, 1)
    assert pool.load(second).explainer is not waiting.explainer
    assert (pool.statistics().networks, pool.statistics().heads) == (1, 1)
    assert pool.find(first) is None
    wanted = request(saliency=["gradient"])
    assert_close(pool.answer_begun([pool.begin(waiting, wanted)])[0], own(first).answer([wanted])[0])
    assert_close(pool.answer([(first, wanted)])[0], own(first).answer([wanted])[0])
    statistics = pool.statistics()
    assert statistics.evictions == 5  # heads, and networks with theirs: of first, of sibling, of second
    assert (statistics.hits, statistics.misses) == (0, 4)


def test_threads_that_come_at_once_load_a_network_once(files: list[ModelFile], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    shared = Network.shared

    def counted(model: models.Model, *rest: Any) -> Network | None:
        made.append(model.version)
        return shared(model, *rest)

    monkeypatch.setattr(Network, "shared", counted)
    pool, served = PoolService(threads=1), []
    threads = [threading.Thread(target=lambda file=file: served.append(pool.load(file))) for file in files * 2]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len({id(one.explainer) for one in served}) == 1
    assert pool.statistics().heads == len(files)


def test_a_network_that_ends_otherwise_answers_for_one_model_each(tmp_path: Path) -> None:
    """SqueezeNet's classes are channels of a convolution."""
    from support.gateway import write_store

    write_store(tmp_path)
    files = ModelStore(tmp_path).of("toy")
    pool, wanted = PoolService(threads=1), request(saliency=["gradient"])
    replies = pool.answer([(file, wanted) for file in files])
    assert [envelope(reply) for reply in replies] == [envelope(own(file).answer([wanted])[0]) for file in files]
    assert (pool.statistics().networks, pool.statistics().heads) == (2, 2)
    assert pool.load(files[0]).head is None


def test_how_far_a_precision_deviates_is_measured_for_each_head(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    files = [publish_head(store, backbone(), classes, classes, precision="bf16") for classes in (2, 6)]
    pool = PoolService(threads=1)
    for file in files:
        told, expected = pool.load(file).info, own(file).answer([request()])[0].envelope.model
        assert told.precision == expected.precision == "bf16"
        assert told.deviation.logits == pytest.approx(expected.deviation.logits, rel=0.05)
        assert told.deviation.gradient == pytest.approx(expected.deviation.gradient, rel=0.05)
