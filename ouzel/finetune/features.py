"""Features of a frozen backbone, computed once for each image and view, and remembered across trainings.

A cache goes by content: what an image, a backbone and a preprocessing give never changes. So jobs share it, and a
training on a data set that has grown computes the new images alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.finetune.data import Example
from ouzel.finetune.devices import filled, wants_one_shape
from ouzel.finetune.pictures import Pictures
from ouzel.models import Preprocessing
from ouzel.saliency.transfer import sent

BATCH = 32
_SEEN = 500  # keys in a question to the database


class Cache(Protocol):
    """Features by key; all of one cache have the same length. It may forget, and it may fail silently."""

    def get(self, keys: Sequence[str]) -> Mapping[str, Tensor]:
        """What is remembered of these keys, (F,) float16 each."""

    def put(self, features: Mapping[str, Tensor]) -> None:
        """Remember features, (F,) float16 each."""


@dataclass(frozen=True)
class MemoryCache:
    """Remembers for one training, which asks for the same images two or three times."""

    _known: dict[str, Tensor] = field(default_factory=dict)

    def get(self, keys: Sequence[str]) -> Mapping[str, Tensor]:
        """What is remembered of these keys, (F,) float16 each."""
        return {key: self._known[key] for key in keys if key in self._known}

    def put(self, features: Mapping[str, Tensor]) -> None:
        """Remember features, (F,) float16 each."""
        self._known.update(features)


@dataclass(frozen=True)
class FileCache:
    """One SQLite file per backbone and preprocessing, which several processes may use at a time. float16 values.

    Nothing here is worth failing for: what cannot be read counts as not there, what cannot be written is left out.
    """

    path: Path

    def get(self, keys: Sequence[str]) -> Mapping[str, Tensor]:
        """What is remembered of these keys, (F,) float16 each."""
        tensors: dict[str, Tensor] = {}
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as database:
            for start in range(0, len(keys), _SEEN):
                part = list(keys[start : start + _SEEN])
                marks = ", ".join("?" * len(part))
                for key, value in database.execute(f"SELECT key, value FROM features WHERE key IN ({marks})", part):
                    tensors[key] = torch.frombuffer(bytearray(value), dtype=torch.float16)
        return tensors

    def put(self, features: Mapping[str, Tensor]) -> None:
        """Remember features, (F,) float16 each."""
        rows = [(key, value.numpy().tobytes()) for key, value in features.items()]
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as database:
            database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=30)
        try:
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
            with database:
                yield database
        finally:
            database.close()


def file_cache(folder: Path, digest: str, preprocessing: Preprocessing) -> FileCache:
    """The cache of a backbone, by the digest of its weights, with a preprocessing."""
    text = json.dumps([digest, preprocessing.to_dict()], sort_keys=True)
    return FileCache(folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.sqlite")


def trim(folder: Path, most: int) -> None:
    """Remove the files that were not written to for longest, until `most` bytes are left."""
    files = sorted(folder.glob("*.sqlite"), key=lambda path: path.stat().st_mtime, reverse=True)
    size = 0
    for path in files:
        size += path.stat().st_size
        if size > most:
            path.unlink(missing_ok=True)


@dataclass
class Features:
    """network: the backbone, (B, C, H, W) to (B, F). tell: called with the images done and how many there are."""

    network: nn.Module
    pictures: Pictures
    cache: Cache = field(default_factory=MemoryCache)
    batch: int = BATCH

    def of(
        self,
        examples: Sequence[Example],
        *,
        mirrored: bool = False,
        tell: Callable[[int, int], None] = lambda done, of: None,
    ) -> Tensor:
        """(N, F) float32 on the CPU, rounded to float16 so that remembered ones are the same."""
        view = "mirrored" if mirrored else "centre"
        keys = [f"{each.sha256} {view}" for each in examples]
        known = dict(self.cache.get(keys))
        missing = {key: each for key, each in zip(keys, examples, strict=True) if key not in known}
        done, items = len(examples) - len(missing), list(missing.items())
        parts = [dict(items[start : start + self.batch]) for start in range(0, len(items), self.batch)]
        with contextlib.closing(self.pictures.served([list(part.values()) for part in parts])) as pixels:
            for part, x in zip(parts, pixels, strict=True):
                new = dict(zip(part, self._compute(x, mirrored), strict=True))
                self.cache.put(new)
                known |= new
                done += len(new)
                tell(done, len(examples))
        return torch.stack([known[key] for key in keys]).float()

    @models.computing()
    @torch.no_grad()
    def _compute(self, pixels: Tensor, mirrored: bool) -> Tensor:
        """pixels: (B, C, H, W) uint8."""
        device = next(self.network.parameters()).device
        x = sent(pixels.flip(-1) if mirrored else pixels, device)
        if wants_one_shape(device):
            x = filled(x, self.batch)
        x = self.pictures.preprocessing.normalised(x).contiguous(memory_format=torch.channels_last)
        return self.network(x)[: len(pixels)].flatten(1).clamp(-65504, 65504).half().cpu()
