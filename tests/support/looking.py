"""Looks at models in this process, which has imported torch, instead of in one that imports it for each."""

from __future__ import annotations

import json
from pathlib import Path

from ouzel.errors import OuzelError
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.catalog.describe import describe
from ouzel.worker.isolated import Isolated


class Here(Isolated):
    """Answers what `python -m ouzel.worker.catalog.describe` prints."""

    def ask(self, module: str, *arguments: str, seconds: float) -> bytes:
        assert module == describe.__module__
        try:
            return json.dumps(describe(Path(arguments[0]))).encode()
        except OuzelError as error:
            return json.dumps({"error": str(error)}).encode()


def look(store: Path, state: Path) -> None:
    """A worker with this state folder finds what it would ask of each model of the store when it starts."""
    Catalogue(store, state / "jobs" / "models", isolated=Here()).warm()
