"""Whose predictions are audited. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["model", "endpoint", "callable", "table"]


@dataclass(frozen=True)
class Source:
    """Whose predictions are audited.

    Attributes:
        kind: "model" of our store, "endpoint" of another service, "callable" of the caller, who reports the answers, or
            "table" of recorded predictions.
        name: Of the model or the endpoint, or what the caller calls it.
        version: As the source states it; may be empty.
        digest: "sha256:..." of the weights; empty if nobody knows.
    """

    kind: Kind
    name: str
    version: str = ""
    digest: str = ""
