"""Trees, proofs and tiles against the vectors of the specifications and a plain implementation of RFC 6962."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouzel.ledger.tlog.merkle import (
    EMPTY,
    SIZE,
    WIDTH,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    range_hash,
    root_hash,
    root_of_inclusion,
)
from ouzel.ledger.tlog.tiles import TileName, bundle, changed, tiles_of, unbundle
from support.ledgers import mth

# The test tree of the Certificate Transparency projects.
INPUTS = [
    bytes.fromhex(each)
    for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"


def tiles(leaves: list[bytes]):
    """Tiles by level and number, from leaf hashes."""
    levels = [leaves]
    while len(levels[-1]) >= WIDTH:
        levels.append([mth(levels[-1][i : i + WIDTH]) for i in range(0, len(levels[-1]) - WIDTH + 1, WIDTH)])
    return lambda level, number: b"".join(levels[level][number * WIDTH : (number + 1) * WIDTH])


def some_leaves(count: int) -> list[bytes]:
    return [leaf_hash(f"{i}".encode()) for i in range(count)]


def test_roots_are_those_of_the_vectors() -> None:
    leaves = [leaf_hash(each) for each in INPUTS]
    assert root_hash([]).hex() == EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [root_hash(leaves[: n + 1]).hex() for n in range(8)] == ROOTS
    assert [range_hash(tiles(leaves), 0, n + 1).hex() for n in range(8)] == ROOTS


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [(0, 1, []), (0, 8, [A, B, C]), (5, 8, [D, E, ROOTS[3]]), (2, 3, [ROOTS[1]]), (1, 5, [ROOTS[0], B, D])],
)
def test_inclusion_proofs_are_those_of_the_vectors(index: int, size: int, proof: list[str]) -> None:
    leaves = [leaf_hash(each) for each in INPUTS]
    made = inclusion_proof(tiles(leaves), index, size)
    assert [each.hex() for each in made] == proof
    assert root_of_inclusion(leaves[index], index, size, made) == bytes.fromhex(ROOTS[size - 1])


@pytest.mark.parametrize(
    ("old", "new", "proof"), [(1, 1, []), (1, 8, [A, B, C]), (6, 8, [F, E, ROOTS[3]]), (2, 5, [B, D])]
)
def test_consistency_proofs_are_those_of_the_vectors(old: int, new: int, proof: list[str]) -> None:
    made = consistency_proof(tiles([leaf_hash(each) for each in INPUTS]), old, new)
    assert [each.hex() for each in made] == proof
    assert is_consistent(old, bytes.fromhex(ROOTS[old - 1]), new, bytes.fromhex(ROOTS[new - 1]), made)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_proofs_hold_for_their_place_only(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 700), "size")
    leaves = some_leaves(size)
    root, read = mth(leaves), tiles(leaves)
    assert range_hash(read, 0, size) == root_hash(leaves) == root
    index = data.draw(st.integers(0, size - 1), "index")
    proof = inclusion_proof(read, index, size)
    assert root_of_inclusion(leaves[index], index, size, proof) == root
    other = data.draw(st.integers(0, size - 1), "other")
    assert (root_of_inclusion(leaves[index], other, size, proof) == root) == (other == index)
    for bad in ([*proof, bytes(SIZE)], proof[:-1]):
        assert bad == proof or root_of_inclusion(leaves[index], index, size, bad) != root
    old = data.draw(st.integers(0, size), "old")
    grown = consistency_proof(read, old, size)
    assert is_consistent(old, mth(leaves[:old]), size, root, grown)
    assert not is_consistent(old, hashlib.sha256(b"x").digest(), size, root, grown)
    assert not is_consistent(old, mth(leaves[:old]), size, root, [*grown, bytes(SIZE)])
    if old not in (0, size):
        assert not is_consistent(old, mth(leaves[:old]), size, hashlib.sha256(b"x").digest(), grown)
        assert not is_consistent(old, mth(leaves[:old]), size, root, grown[:-1])


def test_paths_are_those_of_the_specification() -> None:
    assert TileName(0, 1234067).path == "tile/0/x001/x234/067"
    assert TileName(None, 1000, 3).path == "tile/entries/x001/000.p/3"
    paths = [each.path for each in tiles_of(70_000)]
    by_level = [sorted(p for p in paths if p.startswith(f"tile/{level}/")) for level in ("0", "1", "2", "entries")]
    assert [len(each) for each in by_level] == [274, 2, 1, 274]
    assert {"tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"} <= set(paths)
    assert [each.path for each in tiles_of(256)] == ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]


@given(st.sampled_from([None, 0, 1, 63]), st.integers(0, 10**10), st.integers(1, 256))
def test_a_path_stands_for_one_tile(level: int | None, number: int, width: int) -> None:
    name = TileName(level, number, width)
    assert TileName.parse(name.path) == name


@pytest.mark.parametrize(
    "path",
    [
        "tile/64/000",
        "tile/00/000",
        "tile/0/0000",
        "tile/0/001/000",
        "tile/0/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/00",
        "tile/0/../key",
        "tiles/0/000",
    ],
)
def test_other_paths_stand_for_none(path: str) -> None:
    assert TileName.parse(path) is None


@given(st.integers(0, 70_000), st.integers(0, 70_000))
@settings(max_examples=20, deadline=None)
def test_what_a_growing_log_writes_is_what_it_needs(one: int, other: int) -> None:
    old, new = sorted((one, other))
    there = set(tiles_of(old)) | set(changed(old, new))
    assert set(tiles_of(new)) <= there


@given(st.lists(st.binary(max_size=300), max_size=20), st.data())
def test_bundles_keep_entries_apart(entries: list[bytes], data: st.DataObject) -> None:
    content = bundle(entries)
    assert unbundle(content) == (entries, True)
    cut = data.draw(st.integers(0, len(content)))
    begun, whole = unbundle(content[:cut])
    assert begun == entries[: len(begun)]
    assert whole == (content[:cut] == bundle(begun))
