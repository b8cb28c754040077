"""How much work a job is, in units that take about as long as each other within one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

from ouzel.errors import NotFound
from ouzel.worker.catalog.catalog import Catalogue


@dataclass(frozen=True)
class Work:
    """The work of a job.

    Attributes:
        scale: Jobs of the same kind and scale can be compared: recipe, size of the model, and what else decides how
            long a unit takes.
        units: How many.
    """

    scale: str
    units: float


def scale(*parts: str, model: str, catalogue: Catalogue, **settings: Any) -> str:
    """Names a scale.

    Args:
        *parts: What decides.
        model: Whose size decides, too: its archive's, to the nearest power of two.
        catalogue: Knows the model.
        **settings: Further values that decide.
    """
    size = catalogue.file(model).path.stat().st_size
    rest = [f"{name}={value}" for name, value in sorted(settings.items())]
    return ", ".join([*filter(None, parts), *rest, f"model of 2^{round(log2(max(size, 1)))} bytes"])


def images(dataset: str, catalogue: Catalogue) -> int | None:
    """How many images an uploaded data set has; None of others, which nobody has counted."""
    if catalogue.uploads is None or catalogue.owner is None:
        return None
    try:
        return int(catalogue.uploads.get(catalogue.owner, dataset).images)
    except NotFound:
        return None


def plain(parameters: Mapping[str, Any]) -> str:
    """Parameters of a request as a text."""
    return " ".join(
        f"{name}={getattr(value, value.WhichOneof('value') or 'integer')}" for name, value in sorted(parameters.items())
    )
