"""Verifying a log: everything that is published is computed again from the entries, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ouzel.errors import DataLoss
from ouzel.ledger.entry import Entry
from ouzel.ledger.published.storage import Storage
from ouzel.ledger.tlog.checkpoint import Checkpoint, read_checkpoint
from ouzel.ledger.tlog.merkle import SIZE, WIDTH, hashes_of, leaf_hash, root_hash
from ouzel.ledger.tlog.note import VerifierKey
from ouzel.ledger.tlog.tiles import CHECKPOINT, VKEY, TileName, tiles_of, unbundle

_ENOUGH = 100  # problems, after which nobody learns from more


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        index: The first entry that it concerns; None if it concerns none in particular.
        path: The file, or "database".
        what: What is wrong.
    """

    index: int | None
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.index is None else f"entry {self.index} ({self.path}): {self.what}"


@dataclass(frozen=True)
class Verification:
    """What came out.

    Attributes:
        checkpoint: The published one; None if it is not signed by the key.
        leaves: Leaf hashes of its entries, as far as they could be read.
        pruned: Entries before this index have no bodies any more, which an entry of the log says.
        problems: What is wrong, the first entry first.
        notes: What a reader should know besides.
    """

    checkpoint: Checkpoint | None
    leaves: Sequence[bytes] = ()
    pruned: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass
class _State:
    """What has been read."""

    leaves: list[bytes] = field(default_factory=list)
    missing: list[TileName] = field(default_factory=list)  # bundles
    pruned: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wrong(self, index: int | None, path: str, what: str) -> None:
        if len(self.problems) < _ENOUGH:
            self.problems.append(Problem(index, path, what))


def verify(storage: Storage, key: VerifierKey, *, since: bytes | None = None) -> Verification:
    """Verifies a published log.

    Args:
        storage: Its files.
        key: Of the log, from somewhere else than its files.
        since: A checkpoint that was saved earlier: the log must have grown from it.

    Returns:
        What came out.

    Raises:
        Unavailable: The storage does not answer.
    """
    content = storage.read(CHECKPOINT)
    if content is None:
        return Verification(None, problems=(Problem(None, CHECKPOINT, "is missing"),))
    try:
        checkpoint, _ = read_checkpoint(content, key)
    except DataLoss as error:
        return Verification(None, problems=(Problem(None, CHECKPOINT, str(error)),))
    state = _State()
    _read_entries(storage, checkpoint.size, state)
    levels = _levels(state.leaves)
    _compare_tiles(storage, checkpoint.size, levels, state)
    if root_hash(state.leaves) != checkpoint.root and not state.problems:
        state.wrong(None, CHECKPOINT, f"its root is not that of the {checkpoint.size} entries")
    if storage.read(VKEY) != f"{key}\n".encode():
        state.wrong(None, VKEY, "is missing, or is another key than the one that was given")
    _look_at_the_rest(storage, checkpoint.size, levels, state)
    if since is not None:
        _compare_since(since, key, checkpoint, state)
    problems = sorted(state.problems, key=lambda each: (each.index is None, each.index or 0))
    return Verification(checkpoint, state.leaves, state.pruned, tuple(problems), tuple(state.notes))


def _read_entries(storage: Storage, size: int, state: _State) -> None:
    """Reads hashes and entries side by side; where hashes are missing, those of the entries stand for them."""
    for name in tiles_of(size):
        if name.level is not None:
            continue
        first = name.number * WIDTH
        tile_name = TileName(0, name.number, name.width)
        hashes = _tile(storage, tile_name, first, state)
        found = _read(storage, name)
        if found is None:
            state.missing.append(name)
            state.leaves += hashes or [bytes(SIZE)] * name.width
            continue
        path, content = found
        entries, whole = unbundle(content)
        expected = name.width if path == name.path else WIDTH
        if len(entries) != expected or not whole:
            last = first + min(len(entries), name.width - 1)
            state.wrong(last, path, f"{len(entries)} whole entries instead of {expected}")
        own = [leaf_hash(entry) for entry in entries[: name.width]]
        for i, (leaf, entry) in enumerate(zip(own, entries, strict=False)):
            if hashes and leaf != hashes[i]:
                state.wrong(first + i, path, f"the entry does not have the hash that {tile_name.path} says")
            else:
                _look_at(entry, first + i, path, state)
        state.leaves += hashes or own + [bytes(SIZE)] * (name.width - len(own))
    for name in state.missing:
        if (name.number + 1) * WIDTH > state.pruned:
            state.wrong(name.number * WIDTH, name.path, "the bundle is missing, and no entry says that it was pruned")


def _look_at(content: bytes, index: int, path: str, state: _State) -> None:
    try:
        entry = Entry.parse(content)
        if entry.kind == "prune":
            end = entry.facts.get("end")
            if not isinstance(end, int) or not 0 <= end <= index:
                raise DataLoss("it says that entries were pruned, but not which")
            state.pruned = max(state.pruned, end)
    except DataLoss as error:
        state.wrong(index, path, str(error))


def _tile(storage: Storage, name: TileName, first: int | None, state: _State) -> list[bytes] | None:
    """The hashes of a tile, as many as the checkpoint needs; None if it is no good."""
    found = _read(storage, name)
    if found is None:
        state.wrong(first, name.path, "the tile is missing")
        return None
    path, content = found
    expected = (name.width if path == name.path else WIDTH) * SIZE
    if len(content) != expected:
        state.wrong(first, path, f"{len(content)} bytes instead of {expected}")
        return None
    return hashes_of(content)[: name.width]


def _read(storage: Storage, name: TileName) -> tuple[str, bytes] | None:
    """A tile or bundle with its path; the full one may stand for a partial one."""
    for path in dict.fromkeys((name.path, name.full)):
        content = storage.read(path)
        if content is not None:
            return path, content
    return None


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The hashes of all levels of tiles."""
    levels = [list(leaves)]
    while len(levels[-1]) >= WIDTH:
        below = levels[-1]
        levels.append([root_hash(below[i : i + WIDTH]) for i in range(0, len(below) - WIDTH + 1, WIDTH)])
    return levels


def _compare_tiles(storage: Storage, size: int, levels: list[list[bytes]], state: _State) -> None:
    for name in tiles_of(size):
        if not name.level:
            continue
        start, span = name.number * WIDTH, WIDTH**name.level
        hashes = _tile(storage, name, None, state)
        for i, each in enumerate(hashes or ()):
            if each != levels[name.level][start + i]:
                first = (start + i) * span
                state.wrong(None, name.path, f"hash {i} is not that of the entries {first} to {first + span - 1}")


def _look_at_the_rest(storage: Storage, size: int, levels: list[list[bytes]], state: _State) -> None:
    """Other files: partial tiles of earlier checkpoints, and those of a checkpoint that is still to come."""
    paths = storage.paths()
    if paths is None:
        return
    needed = {name.path for name in tiles_of(size)} | {CHECKPOINT, VKEY}
    for path in sorted(set(paths) - needed):
        name = TileName.parse(path)
        if name is None or (name.level or 0) > len(levels):
            state.wrong(None, path, "is not a file of the log")
            continue
        level = name.level or 0
        content = storage.read(path)
        if content is None:
            continue  # somebody publishes meanwhile
        if name.level is None:
            entries, whole = unbundle(content)
            hashes, whole = [leaf_hash(entry) for entry in entries], whole and len(entries) == name.width
        else:
            hashes, whole = hashes_of(content), len(content) == name.width * SIZE
        start = name.number * WIDTH
        known = levels[level][start : start + name.width] if level < len(levels) else []
        for i, (own, expected) in enumerate(zip(hashes, known, strict=False)):
            if own != expected:
                state.wrong((start + i) * WIDTH**level, path, "is not the beginning of what was published later")
                break
        if not whole:
            state.wrong(start * WIDTH**level, path, f"has not the {name.width} entries or hashes of its name")
        elif len(known) < name.width:
            state.notes.append(f"{path} goes beyond the checkpoint, and was compared up to there")


def _compare_since(since: bytes, key: VerifierKey, now: Checkpoint, state: _State) -> None:
    try:
        old, _ = read_checkpoint(since, key)
    except DataLoss as error:
        state.wrong(None, "since", f"the saved checkpoint is no good: {error}")
        return
    if old.size > now.size:
        state.wrong(None, CHECKPOINT, f"the log went back: it had {old.size} entries and has {now.size}")
    elif root_hash(state.leaves[: old.size]) != old.root:
        state.wrong(None, CHECKPOINT, f"a fork: the first {old.size} entries are not those of the saved checkpoint")
