"""Errors of calls to TorchServe. Each message is one line that says what to do or where to look."""

from __future__ import annotations

from ouzel.errors import OuzelError


class PublicationFailed(OuzelError):
    """TorchServe does not serve a version, or could not be told to; it is as it was before."""

    code = "UNAVAILABLE"
    http = 503


class OutcomeUnknown(OuzelError):
    """The storage went away in the middle of a change, and whether that took place is not known."""

    code = "UNAVAILABLE"
    http = 503


class ServerUnreachable(PublicationFailed):
    """TorchServe does not answer at all; it may do so later."""
