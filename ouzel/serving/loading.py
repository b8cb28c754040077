"""Loads models into a TorchServe that has just started: one after another, each with all threads of its workers.

Together they would take the cores from one another, and their progress could not be told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ouzel.serving import readiness
from ouzel.serving.errors import StartFailed
from ouzel.serving.running import RunningServing
from ouzel.serving.warm_up import WarmUp
from ouzel.torchserve.archives import Archive
from ouzel.torchserve.errors import PublicationFailed
from ouzel.torchserve.management import Settings, begin

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loading:
    """A version of a model that is being loaded.

    Attributes:
        model: Name of the model.
        version: Its version.
        number: Of the versions that are loaded, from 1 on.
        total: How many versions are loaded.
        seconds: How long it took; None until it is ready.
    """

    model: str
    version: str
    number: int
    total: int
    seconds: float | None = None

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self.seconds is not None


Tell = Callable[[Loading], None]


def load(
    serving: RunningServing,
    archives: Sequence[Archive],
    settings: Settings,
    timeout: float,
    tell: Tell | None = None,
    *,
    lenient: bool = False,
    loaded: Callable[[Archive], None] | None = None,
) -> None:
    """Loads archives, and returns once each has answered a request. The first of a name becomes its default.

    Args:
        serving: The TorchServe.
        archives: What to load.
        settings: How each is served.
        timeout: Time for TorchServe, and for each archive, in seconds.
        tell: Called when one begins and when it is ready.
        loaded: Called with each that has answered, before it counts as ready.
        lenient: Whether to go on after one that fails, unless all do. At a restart one bad model must not keep the
            others from callers.

    Raises:
        StartFailed: Names the model.
    """
    say = tell or (lambda _: None)
    failures: list[StartFailed] = []
    readiness.wait(serving, timeout)
    with WarmUp(serving) as warming:
        for number, archive in enumerate(archives, 1):
            start = time.monotonic()
            say(Loading(archive.name, archive.version, number, len(archives)))
            try:
                _begin(serving, archive, settings)
                readiness.wait_for_model(serving, archive.name, archive.version, settings.workers, timeout)
                if loaded is not None:
                    loaded(archive)
            except StartFailed as error:
                failures.append(error)
                if not lenient or serving.poll() is not None or len(failures) == len(archives):
                    raise
                logger.error("the others are served without it: %s", error)
                continue
            warming.begin(archive.name, archive.version)
            say(Loading(archive.name, archive.version, number, len(archives), time.monotonic() - start))


def _begin(serving: RunningServing, archive: Archive, settings: Settings) -> None:
    try:
        begin(serving.server, archive.name, archive.version, archive.url, settings)
    except PublicationFailed as error:
        raise StartFailed(str(error)) from error
