"""Many clients with different wishes at once on one worker: each gets what it gets alone, and nothing of another's."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ouzel.serving import RunningServing
from ouzel_client import Client, Contrast, Explanation, Saliency, SaliencyMap, Top

pytestmark = pytest.mark.e2e
MODEL = "efficientnet-lite0"
ROUNDS = 2

# One per client. Methods, rules, targets, reductions, parameters and sizes differ; so do the pictures.
WISHES: list[dict[str, Any]] = [
    {"saliency": Saliency("gradient", 281, "none"), "top_k": 1},
    {"saliency": Saliency("guided", 281, "none"), "top_k": 2},
    {"saliency": [Saliency("guided", Contrast(281, 285), "signed_sum"), Saliency("gradient", Contrast(285, 281))]},
    {"saliency": [Saliency("grad_cam", Top(3)), "layer_cam"], "top_k": 3},
    {"saliency": [Saliency("grad_cam", layer="blocks.4"), Saliency("input_x_gradient", reduction="sum_abs")]},
    {"saliency": Saliency("smoothgrad", 7, samples=2, of="guided", seed=3)},
    {"saliency": [Saliency("integrated_gradients", steps=2, baseline="white"), "guided_grad_cam"]},
    {"saliency": [Saliency("occlusion", reduction="signed_sum", window=112, stride=112), Saliency("rise", masks=3)]},
    {"saliency": Saliency("gradient", Top(2), dtype="float16", size="original")},
    {"saliency": (), "top_k": 4},
]


@pytest.fixture
def clients(running: RunningServing) -> Iterator[list[Client]]:
    clients = [Client(target=running.grpc, token=running.inference_token, timeout=120) for _ in WISHES]
    yield clients
    for client in clients:
        client.close()


def ask(client: Client, picture: np.ndarray, number: int, request_id: str = "") -> Explanation:
    return client.models[MODEL].explain(picture, request_id=request_id or None, **WISHES[number])


def metadata(one: SaliencyMap) -> tuple[object, ...]:
    """All that is said of a map, and was not computed from pixels."""
    said = (one.method, one.reduction, one.size, one.rectified, one.caveats, dict(one.parameters))
    return (*said, one.array.shape, one.array.dtype, sorted(one.measures))


def deviation(one: np.ndarray, other: np.ndarray) -> float:
    """In the L2 norm, as a share of the other's."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def test_each_gets_what_it_gets_alone(clients: list[Client], chelsea: np.ndarray) -> None:
    pictures = [np.ascontiguousarray(np.roll(chelsea, 23 * number, axis=1)) for number in range(len(WISHES))]
    alone = [ask(client, pictures[number], number) for number, client in enumerate(clients)]
    assert [answer.timing.batch_size for answer in alone] == [1] * len(WISHES)

    with ThreadPoolExecutor(len(WISHES)) as pool:
        futures = [
            (number, f"{number}/{turn}", pool.submit(ask, client, pictures[number], number, f"{number}/{turn}"))
            for turn in range(ROUNDS)
            for number, client in enumerate(clients)
        ]
        together = [(number, request_id, future.result()) for number, request_id, future in futures]
    assert max(answer.timing.batch_size for *_, answer in together) > 1, "the calls never met in one batch"

    for number, request_id, answer in together:
        expected = alone[number]
        assert answer.request_id == request_id
        assert answer.labels == expected.labels
        np.testing.assert_allclose(answer.logits, expected.logits, atol=1e-3)
        assert len(answer.saliency) == len(expected.saliency)
        for got, want in zip(answer.saliency, expected.saliency, strict=True):
            assert metadata(got) == metadata(want)
            assert got.target == want.target
            # Single precision takes another side of zero now and then: see ouzel.saliency.
            assert deviation(got.array, want.array) < 0.05
            cosine = np.vdot(got.array, want.array) / np.linalg.norm(got.array) / np.linalg.norm(want.array)
            assert cosine > 0.998


def test_the_bound_tells_the_wishes_apart(clients: list[Client], chelsea: np.ndarray) -> None:
    """Another's target, rule or picture would show in the test above."""
    model = clients[0].models[MODEL]
    first, second = chelsea, np.ascontiguousarray(np.roll(chelsea, 23, axis=1))
    wishes = [Saliency("gradient", 281), Saliency("guided", 281), Saliency("gradient", 7)]
    maps = [one.array for picture in (first, second) for one in model.explain(picture, saliency=wishes).saliency]
    for number, one in enumerate(maps):
        assert all(deviation(one, other) > 0.2 for other in maps[:number])
