"""What goes wrong when services start or stop; each message is one line that says what to do or where to look."""

from __future__ import annotations

from ouzel.errors import FailedPrecondition, OuzelError


class AlreadyRunning(FailedPrecondition):
    """Services of this state folder run, or are being started, already."""


class StartFailed(OuzelError):
    """The services were started and did not become ready; everything was stopped again."""

    code = "UNAVAILABLE"
    http = 503


class PublicationFailed(OuzelError):
    """TorchServe does not serve a version, or could not be told to; it is as it was before."""

    code = "UNAVAILABLE"
    http = 503


class ServerUnreachable(PublicationFailed):
    """TorchServe does not answer at all; it may do so later."""
