"""What is known of an audited decision besides the evidence."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ouzel.audit.options import PredictionOptions
from ouzel.errors import InvalidArgument
from ouzel.pages.texts import visible

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
        stated: The same as a text from somewhere, where `decided` is None.
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
    stated: str = ""
    audited: datetime | None = None
    dataset: str = ""
    options: PredictionOptions | None = None
    operator: Operator = Operator()

    def __post_init__(self) -> None:
        _check(digest=self.digest, dataset=self.dataset, decided=self.decided, audited=self.audited)

    @property
    def when(self) -> str:
        """When the decision was taken, for people; "" if nobody said."""
        return told(self.decided) or visible(self.stated)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types, without the options."""
        return {
            "image": self.image,
            "digest": self.digest,
            "service": self.service,
            "decided": _iso(self.decided),
            "stated": self.stated,
            "audited": _iso(self.audited),
            "dataset": self.dataset,
            "operator": asdict(self.operator),
        }


@dataclass(frozen=True)
class DatasetCase:
    """The data set that was audited.

    Attributes:
        name: As people call it.
        dataset: Digest of the data set; empty if nobody knows.
        registered: When the design was fixed, before the first answer, with a time zone.
        audited: When the audit ended, with a time zone.
        operator: Who answers for the decisions.

    Raises:
        InvalidArgument: A digest is none, or a time has no zone.
    """

    name: str = ""
    dataset: str = ""
    registered: datetime | None = None
    audited: datetime | None = None
    operator: Operator = Operator()

    def __post_init__(self) -> None:
        _check(dataset=self.dataset, registered=self.registered, audited=self.audited)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types."""
        times = {"registered": _iso(self.registered), "audited": _iso(self.audited)}
        return {"name": self.name, "dataset": self.dataset, **times, "operator": asdict(self.operator)}


def _check(**values: str | datetime | None) -> None:
    """Refuses texts that are no digests, and times without a zone."""
    for name, value in values.items():
        if isinstance(value, str) and value and not _DIGEST.fullmatch(value):
            raise InvalidArgument(f"{name}: {value!r:.80} is no SHA-256 in lower-case hex", field=name)
        if isinstance(value, datetime) and value.utcoffset() is None:
            raise InvalidArgument(f"{name}: {value.isoformat()} has no time zone", field=name)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def told(time: datetime | None) -> str:
    """A time for people: "3 May 2026, 14:05 UTC"; "" for None."""
    return "" if time is None else f"{time.astimezone(UTC):%-d %B %Y, %H:%M} UTC"
