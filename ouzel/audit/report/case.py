"""What is known of an audited decision besides the evidence."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ouzel.audit.options import PredictionOptions
from ouzel.errors import InvalidArgument

_LONGEST = 2000  # characters of a text that the operator writes
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True)
class Operator:
    """Who answers for the decision, in the words of that organisation. All of it may be empty.

    Attributes:
        organisation: Its name.
        contact: Where a person can ask, such as a mail address.
        role: Which part the system and which part people had in the decision.

    Raises:
        InvalidArgument: A text has more than 2,000 characters.
    """

    organisation: str = ""
    contact: str = ""
    role: str = ""

    def __post_init__(self) -> None:
        for name, text in vars(self).items():
            if len(text) > _LONGEST:
                field = f"operator.{name}"
                raise InvalidArgument(f"{field}: has {len(text)} characters, more than {_LONGEST}", field=field)


@dataclass(frozen=True)
class Case:
    """The decision that was audited. Texts may come from strangers: the pages escape them.

    Attributes:
        image: Name of the image.
        digest: SHA-256 of the image's file, in hex, with or without "sha256:"; empty if nobody knows.
        service: Who decided, as people call it; empty stands for the audited source.
        decided: When the decision was taken, with a time zone; None if nobody said.
        audited: When it was audited, with a time zone; None is left out.
        dataset: Digest of the data set that the image is from; may be empty.
        options: Of the audit; None if nobody kept them.
        operator: Who answers for the decision.

    Raises:
        InvalidArgument: A digest is none, or a time has no zone.
    """

    image: str = ""
    digest: str = ""
    service: str = ""
    decided: datetime | None = None
    audited: datetime | None = None
    dataset: str = ""
    options: PredictionOptions | None = None
    operator: Operator = Operator()

    def __post_init__(self) -> None:
        for name, text in (("digest", self.digest), ("dataset", self.dataset)):
            if text and not _DIGEST.fullmatch(text):
                raise InvalidArgument(f"{name}: {text!r:.80} is no SHA-256 in lower-case hex", field=name)
        for name, time in (("decided", self.decided), ("audited", self.audited)):
            if time is not None and time.utcoffset() is None:
                raise InvalidArgument(f"{name}: {time.isoformat()} has no time zone", field=name)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types, without the options."""
        return {
            "image": self.image,
            "digest": self.digest,
            "service": self.service,
            "decided": _iso(self.decided),
            "audited": _iso(self.audited),
            "dataset": self.dataset,
            "operator": asdict(self.operator),
        }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def told(time: datetime | None) -> str:
    """A time for people: "3 May 2026, 14:05 UTC"; "" for None."""
    return "" if time is None else f"{time.astimezone(UTC):%-d %B %Y, %H:%M} UTC"
