"""Predictors as an audit in this process asks them: some pictures at a time, and not after the audit was given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from ouzel.audit import Maps, Predictor, Source, View
from ouzel.audit.maps import Drawn
from ouzel.audit.predictor import check_probabilities
from ouzel.errors import DeadlineExceeded

_NO_TURN = nullcontext()
AT_A_TIME = 16  # pictures of one question, and between two looks whether anybody still waits


class Given(DeadlineExceeded):
    """Nobody waits for the audit any more."""


def check(given_up: threading.Event) -> None:
    """Raises `Given` if nobody waits for the audit any more."""
    if given_up.is_set():
        raise Given("the audit was given up")


class Asked:
    """A predictor whose answers are checked.

    Args:
        predictor: Who is asked.
        given_up: Set when nobody waits for the audit any more.
        turn: Held while it computes.
    """

    def __init__(
        self, predictor: Predictor, given_up: threading.Event, turn: AbstractContextManager[object] = _NO_TURN
    ) -> None:
        self._predictor, self._given_up, self._turn = predictor, given_up, turn
        self.source, self.labels, self.view = predictor.source, predictor.labels, predictor.view

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """See `Predictor`."""
        rows = []
        for first in range(0, len(pictures), AT_A_TIME):
            some = pictures[first : first + AT_A_TIME]
            check(self._given_up)
            with self._turn:
                answer = self._predictor(some)
            who = f"{self.source.kind} {self.source.name!r:.80}"
            rows.append(check_probabilities(answer, len(some), len(self.labels), who))
        return np.concatenate(rows)


class AskedMaps:
    """Maps of a model, made while it is their turn.

    Args:
        maps: Who makes them.
        given_up: Set when nobody waits for the audit any more.
        turn: Held meanwhile.
    """

    def __init__(self, maps: Maps, given_up: threading.Event, turn: AbstractContextManager[object]) -> None:
        self._maps, self._given_up, self._turn = maps, given_up, turn

    @property
    def told(self) -> str:
        """See `Maps`."""
        return self._maps.told

    def __call__(self, picture: np.ndarray, claim: int, rival: int) -> Sequence[Drawn]:
        """See `Maps`."""
        check(self._given_up)
        with self._turn:
            return self._maps(picture, claim, rival)


class CallerPredictor:
    """A predictor on the caller's side.

    Args:
        ask: Sends pictures to the caller, and returns what came back.
        source: What the caller says of it.
        labels: Of its classes.
        view: Of what it takes.
    """

    def __init__(
        self, ask: Callable[[np.ndarray], np.ndarray], source: Source, labels: tuple[str, ...], view: View
    ) -> None:
        self._ask = ask
        self.source, self.labels, self.view = source, labels, view

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """See `Predictor`."""
        return self._ask(pictures)
