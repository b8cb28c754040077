"""Which pairs are audited: some at random, by a hash of their id, and those for which a condition holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from ouzel.checks import within
from ouzel.endpoints.clients.strict_json import document
from ouzel.errors import InvalidArgument
from ouzel.sink.cloudevents import Event

RATE = "rate"  # why a pair of the random sample is audited
Kind = Literal["score_below", "classes", "attribute", "metadata"]


@dataclass(frozen=True)
class Condition:
    """Has a pair audited.

    Attributes:
        kind: "score_below": the predicted class has a lower score than `score`. "classes": the predicted class is one
            of `values`. "attribute": the attribute `name` of the event has one of `values`. "metadata": the header
            `name` in KServe's extension `metadata` has one of `values`.
        name: Of the attribute or header.
        values: Labels or values.
        score: 0..1.
    """

    kind: Kind
    name: str = ""
    values: tuple[str, ...] = ()
    score: float = 0.0

    def __post_init__(self) -> None:
        within("where.score_below", self.score, 0, 1)
        if self.kind != "score_below" and not self.values:
            raise InvalidArgument(f"where.{self.kind}: has no values", field=f"where.{self.kind}")

    @property
    def needs_answer(self) -> bool:
        """Whether the response decides."""
        return self.kind in ("score_below", "classes")

    @property
    def needs_score(self) -> bool:
        """Whether the score of the predicted class decides."""
        return self.kind == "score_below"

    @property
    def told(self) -> str:
        """The condition in words: why a pair is audited."""
        if self.kind == "score_below":
            return f"score below {self.score:g}"
        if self.kind == "classes":
            return f"class {', '.join(self.values)}"
        return f"{self.kind} {self.name} is {', '.join(self.values)}"

    def of_event(self, event: Event) -> bool:
        """Whether it holds for an event, whatever was answered."""
        if self.kind == "attribute":
            return event.attribute(self.name) in self.values
        return self.kind == "metadata" and any(each in self.values for each in metadata(event, self.name))

    def of_answer(self, label: str, score: float | None) -> bool:
        """Whether it holds for the answer, whatever the event says."""
        if self.kind == "score_below":
            return score is not None and score < self.score
        return self.kind == "classes" and label in self.values


def metadata(event: Event, name: str) -> Collection[str]:
    """Values of a header that KServe has sent along; none if it has not, or they cannot be read."""
    try:
        values = document(event.extensions.get("metadata", "").encode())
    except (ValueError, RecursionError):
        return ()
    if not isinstance(values, dict):
        return ()
    some: object = next((each for key, each in values.items() if key.lower() == name.lower()), [])
    return [each for each in some if isinstance(each, str)] if isinstance(some, list) else ()


def pair_of(service: str, event: Event) -> bytes:
    """16 bytes that both halves of a pair have, and no other pair.

    A transformer and a predictor may log the same id; the extensions tell them apart.
    """
    parts = [service, event.extensions.get("component", ""), event.extensions.get("endpoint", ""), event.id]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def drawn(pair: bytes, salt: bytes, rate: float) -> bool:
    """Whether a pair is in the random sample.

    Args:
        pair: Of `pair_of`.
        salt: Of this sink. Callers may choose ids; without the salt nobody can choose one that is never audited.
        rate: 0..1.
    """
    number = int.from_bytes(hashlib.blake2b(pair, key=salt, digest_size=8).digest())
    return number < rate * 2**64
