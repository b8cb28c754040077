"""Loading models into a TorchServe that has just started: one after another, each with all threads of its workers.

They would take the same cores from one another otherwise, and nobody could say how far they are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ouzel.serving import readiness
from ouzel.serving.errors import StartFailed
from ouzel.serving.running import RunningServing
from ouzel.torchserve.archives import Archive
from ouzel.torchserve.errors import PublicationFailed
from ouzel.torchserve.management import Settings, begin

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loading:
    """A version of a model that is being loaded, `number` of `total`, from 1 on. seconds: once it is ready, how long
    that took.
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
) -> None:
    """Return once each of `archives` has answered a request; the first of a name becomes its default.

    timeout: seconds for TorchServe, and for each archive. tell: called when one begins and when it is ready. lenient:
    go on after one that fails, unless all do: at a restart one bad model must not keep the others from callers.
    Raises StartFailed, which names the model.
    """
    say = tell or (lambda _: None)
    failures: list[StartFailed] = []
    readiness.wait(serving, timeout)
    for number, archive in enumerate(archives, 1):
        start = time.monotonic()
        say(Loading(archive.name, archive.version, number, len(archives)))
        try:
            _begin(serving, archive, settings)
            readiness.wait_for_model(serving, archive.name, archive.version, settings.workers, timeout)
        except StartFailed as error:
            failures.append(error)
            if not lenient or serving.poll() is not None or len(failures) == len(archives):
                raise
            logger.error("the others are served without it: %s", error)
            continue
        say(Loading(archive.name, archive.version, number, len(archives), time.monotonic() - start))


def _begin(serving: RunningServing, archive: Archive, settings: Settings) -> None:
    try:
        begin(serving.server, archive.name, archive.version, archive.path.name, settings)
    except PublicationFailed as error:
        raise StartFailed(str(error)) from error
