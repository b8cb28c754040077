"""Noise and masks are those that a loop draws, however they are kept and cut into blocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from ouzel.saliency.draws import Drawing, Draws


def by_hand(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(shape, generator=generator) * 2 for _ in range(count)])


def drawing(seed: int, count: int, shape: tuple[int, ...]) -> Drawing:
    return Drawing(("doubled", shape), seed, count, shape, lambda g: torch.randn(shape, generator=g) * 2)


def nbytes(draws: Draws) -> int:
    return sum(tensor.nbytes for tensor in draws._kept.values())


@pytest.mark.parametrize("most_bytes", [0, 10**6])
@pytest.mark.parametrize("shape", [(3, 5, 7), (3, 16, 16), (1, 1, 1)])  # drawn in blocks of 16 numbers, or with a rest
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_blocks_are_those_of_a_loop(most_bytes: int, shape: tuple[int, ...], form: torch.memory_format) -> None:
    draws = Draws(most_bytes)
    like = torch.zeros(2, *shape, dtype=torch.float64).contiguous(memory_format=form)
    for size in (1, 3, 100):
        for seed in (0, 2**63 - 1):
            blocks = list(draws.blocks(drawing(seed, 7, shape), like, size))
            assert [len(block) for block in blocks][:-1] == [size] * (len(blocks) - 1)
            assert all(block.is_contiguous(memory_format=form) for block in blocks)
            assert torch.equal(torch.cat(blocks), by_hand(seed, 7, shape).double())


def test_equal_draws_are_kept_and_the_oldest_go() -> None:
    like = torch.zeros(1, 3, 4, 4)
    draws = Draws(3 * 2 * 48 * 4)  # three drawings of two items
    first = {seed: next(draws.blocks(drawing(seed, 2, (3, 4, 4)), like, 9)).data_ptr() for seed in range(3)}
    assert next(draws.blocks(drawing(0, 2, (3, 4, 4)), like, 9)).data_ptr() == first[0]
    list(draws.blocks(drawing(9, 2, (3, 4, 4)), like, 9))
    assert [key[0].seed for key in draws._kept] == [2, 0, 9]  # type: ignore[index]
    for dtype in (torch.float64, torch.float16):  # another dtype is another tensor
        assert next(draws.blocks(drawing(0, 2, (3, 4, 4)), like.to(dtype), 9)).dtype == dtype


def test_what_is_kept_is_bounded_whatever_is_asked_for() -> None:
    draws = Draws(10_000)
    for seed in range(50):
        list(draws.blocks(drawing(seed, 1 + seed, (3, 4, 4)), torch.zeros(1, 3, 4, 4), 4))
        assert nbytes(draws) <= 10_000


def test_threads_get_their_own_seeds() -> None:
    draws = Draws(4_000)
    like = torch.zeros(1, 3, 4, 4)
    expected = {seed: by_hand(seed, 3, (3, 4, 4)) for seed in range(12)}

    def work(number: int) -> bool:
        seeds = [(number * 5 + step) % 12 for step in range(100)]
        return all(
            torch.equal(torch.cat(list(draws.blocks(drawing(seed, 3, (3, 4, 4)), like, 2))), expected[seed])
            for seed in seeds
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert nbytes(draws) <= 4_000
