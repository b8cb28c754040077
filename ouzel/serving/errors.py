"""What goes wrong when services start or stop; each message is one line that says what to do or where to look."""

from __future__ import annotations

from ouzel.errors import FailedPrecondition, OuzelError


class AlreadyRunning(FailedPrecondition):
    """Services of this state folder run, or are being started, already."""


class StartFailed(OuzelError):
    """The services were started and did not become ready; everything was stopped again."""

    code = "UNAVAILABLE"
    http = 503
