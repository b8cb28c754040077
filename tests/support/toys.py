"""Archives that say all that a model store has to know, and hold no network. No torch."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from ouzel.model_files import ModelFiles


def digest(seed: int) -> str:
    return f"sha256:{seed:064x}"


def write_toy(path: Path, version: str, seed: int, job: str = "", gate: bool | None = None, owner: str = "ann") -> None:
    """An archive with weights of `seed`; of a job, it is a tuned model of `owner`."""
    name = path.stem.partition("@")[0]
    model = {"modelName": name, "modelVersion": version, "handler": "toy.py"}
    card: dict[str, Any] = {"arch": "toy", "labels": ["a", "b"], "weights": {"digest": digest(seed)}}
    if job:
        card["lineage"] = {"owner": owner, "job": job} | ({} if gate is None else {"gate": {"passed": gate}})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
        archive.writestr("model.json", json.dumps(card))
        archive.writestr("weights", bytes([seed % 256]) * 10_000)


def add_toy(store: ModelFiles, version: str, seed: int, *, name: str = "toy", gate: bool | None = None) -> str:
    """A version of a tuned model; returns it."""
    store.folder.mkdir(parents=True, exist_ok=True)
    store.add(name, version, lambda path: write_toy(path, version, seed, f"job {seed}", gate))
    return version
