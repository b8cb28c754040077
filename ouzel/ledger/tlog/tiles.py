"""The files of a published log: their names, and what is in them.

References:
    C2SP, "Tiled Transparency Logs", c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ouzel.ledger.tlog.merkle import WIDTH

CHECKPOINT = "checkpoint"
VKEY = "vkey"  # not of the specification: the key that verifies the checkpoint, for those who have the files alone
LONGEST = 65_535  # bytes of an entry
ENTRIES = "entries"
_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True)
class TileName:
    """A tile or a bundle of entries.

    Attributes:
        level: 0..63; None is a bundle of entries.
        number: 0 is the first of its level.
        width: Hashes or entries in it: 1..256.
    """

    level: int | None
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it lies, as in "tile/0/x001/234.p/17"."""
        return f"{self.full}.p/{self.width}" if self.width < WIDTH else self.full

    @property
    def full(self) -> str:
        """Where it lies when it is full."""
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        level = ENTRIES if self.level is None else str(self.level)
        return "/".join(["tile", level, *(f"x{part}" for part in parts[:-1]), parts[-1]])

    @staticmethod
    def parse(path: str) -> TileName | None:
        """The tile of a path; None if it is the path of none."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        level, folders, last, width = match.groups()
        name = TileName(
            None if level == ENTRIES else int(level),
            int(folders.replace("x", "").replace("/", "") + last),
            int(width) if width else WIDTH,
        )
        return name if name.path == path and (name.level or 0) < 64 else None


def tiles_of(size: int) -> Iterator[TileName]:
    """The tiles and bundles of a log with `size` entries."""
    yield from changed(0, size)


def changed(old: int, new: int) -> Iterator[TileName]:
    """The tiles and bundles that a log has got when it grew from `old` to `new` entries; those of the entries first."""
    level = 0
    while new >> 8 * level:
        before, after = old >> 8 * level, new >> 8 * level
        if before < after:
            for number in range(before // WIDTH, -(-after // WIDTH)):
                width = min(WIDTH, after - number * WIDTH)
                if level == 0:
                    yield TileName(None, number, width)
                yield TileName(level, number, width)
        level += 1


def superseded(old: int, new: int) -> Iterator[TileName]:
    """The full tiles and bundles whose partial ones nobody needs once the log has grown from `old` to `new`."""
    return (each for each in changed(old, new) if each.width == WIDTH)


def bundle(entries: Iterable[bytes]) -> bytes:
    """Entries, each behind its length."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unbundle(content: bytes) -> tuple[list[bytes], bool]:
    """The entries of a bundle.

    Returns:
        The whole entries, and whether nothing else follows them.
    """
    entries, at = [], 0
    while at + 2 <= len(content):
        end = at + 2 + int.from_bytes(content[at : at + 2], "big")
        if end > len(content):
            break
        entries.append(content[at + 2 : end])
        at = end
    return entries, at == len(content)
