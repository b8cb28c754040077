"""Merkle trees: hashes, and proofs that an entry is in a tree or that a tree grew from another one.

References:
    Laurie, Langley, Kasper 2013, "Certificate Transparency", RFC 6962, section 2.1.
    Laurie, Messeri, Stradling 2021, RFC 9162, section 2.1.3.2 and 2.1.4.2: checking proofs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

EMPTY = hashlib.sha256(b"").digest()  # root of the tree without entries
SIZE = 32  # bytes of a hash
WIDTH = 256  # hashes of a full tile
_HEIGHT = 8  # levels of the tree that a tile spans

# Hashes of a tile, by level and number, one after another: those of complete subtrees of WIDTH ** level entries.
ReadTile = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Hash of an entry: of the byte 0x00 and the entry."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two subtrees: of the byte 0x01 and their hashes."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_hash(leaves: Sequence[bytes]) -> bytes:
    """Root of the tree over leaf hashes."""
    level = list(leaves)
    if not level:
        return EMPTY
    while len(level) > 1:
        # The last one without a partner moves up: the split at the largest power of two, from below.
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def hashes_of(tile: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [tile[i : i + SIZE] for i in range(0, len(tile), SIZE)]


def range_hash(read: ReadTile, start: int, end: int) -> bytes:
    """Root of the tree over the entries start..end - 1, where RFC 6962 makes it a subtree of its own.

    Args:
        read: Gives tiles. A tile may hold more hashes than the range needs.
        start: First entry; a multiple of the power of two that is not less than end - start, or 0.
        end: Behind the last entry.
    """
    count = end - start
    if count == 0:
        return EMPTY
    if count & (count - 1) == 0:
        return _complete(read, count.bit_length() - 1, start // count)
    half = _split(count)
    return node_hash(range_hash(read, start, start + half), range_hash(read, start + half, end))


def inclusion_proof(read: ReadTile, index: int, size: int) -> list[bytes]:
    """Hashes that lead from an entry to the root of the tree of the first `size` entries, the lowest first."""
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(range_hash(read, middle, end))
            end = middle
        else:
            proof.append(range_hash(read, start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(read: ReadTile, old: int, new: int) -> list[bytes]:
    """Hashes that show that the tree of `new` entries begins with that of `old` entries."""
    if old in (0, new):
        return []
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(range_hash(read, middle, end))
            end = middle
        else:
            proof.append(range_hash(read, start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(range_hash(read, start, end))
    return proof[::-1]


def root_of_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to; None if a proof for this place has another length."""
    if not 0 <= index < size:
        return None
    node, last, result = index, size - 1, leaf
    for each in proof:
        if last == 0:
            return None
        if node & 1 or node == last:
            result = node_hash(each, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, each)
        node, last = node >> 1, last >> 1
    return result if last == 0 else None


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the tree of `new` entries begins with that of `old` entries."""
    if old == 0:
        return not proof and old_root == EMPTY
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old > new or not path:
        return False
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(each, first), node_hash(each, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, each)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _complete(read: ReadTile, height: int, index: int) -> bytes:
    """Root of the complete subtree of 2 ** height entries, the `index`-th of its size."""
    level, within = divmod(height, _HEIGHT)
    number, offset = divmod(index << within, WIDTH)
    tile = read(level, number)[offset * SIZE : (offset + (1 << within)) * SIZE]
    if len(tile) != SIZE << within:
        raise ValueError(f"tile {level}/{number} is shorter than the tree")
    return root_hash(hashes_of(tile))
