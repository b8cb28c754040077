"""The files of TorchServe's handlers. They are read, never imported."""

from __future__ import annotations

from pathlib import Path

from ouzel.errors import NotFound

SALIENCY, POOL = "saliency_handler.py", "pool_handler.py"  # of one model, and of the pool of many


def handler_file(name: str) -> Path:
    """A handler: of the checkout, or of the wheel. Raises NotFound."""
    package = Path(__file__).parent
    for path in (package / "_handlers" / name, package.parent / "handlers" / name):
        if path.is_file():
            return path
    raise NotFound(f"{name} is not part of this installation of ouzel")
