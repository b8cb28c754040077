"""model.json, the card in every archive: what the weights are and how to feed them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ouzel
from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.models.labels import check_labels
from ouzel.models.preprocessing import Preprocessing

SCHEMA = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.]{0,30}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Card:
    """`digest` is "sha256:<hex>" of weights.safetensors; `ouzel` the version of the library that wrote the archive."""

    name: str
    version: str
    arch: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    digest: str
    ouzel: str = ouzel.__version__

    def to_json(self) -> bytes:
        """The same card always gives the same bytes."""
        content = {
            "schema": SCHEMA,
            "ouzel": self.ouzel,
            "name": self.name,
            "version": self.version,
            "arch": self.arch,
            "num_classes": len(self.labels),
            "in_channels": self.preprocessing.channels,
            "preprocessing": self.preprocessing.to_dict(),
            "labels": list(self.labels),
            "weights": {"file": "weights.safetensors", "digest": self.digest},
        }
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def parse(content: bytes) -> tuple[Card, dict[str, Any]]:
    """A card and the mapping that it came from. Raises FailedPrecondition for a card that cannot be used here."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FailedPrecondition(f"model.json is not JSON ({error})") from error
    if not isinstance(values, Mapping):
        raise FailedPrecondition("model.json is not a JSON object")
    if values.get("schema") != SCHEMA:
        raise FailedPrecondition(f"model.json has schema {values.get('schema')!r}; this version reads {SCHEMA}")
    _check_library(values.get("ouzel"))
    try:
        card = Card(
            name=check_name(values["name"]),
            version=check_version(values["version"]),
            arch=values["arch"],
            labels=check_labels(values["labels"]),
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            digest=values["weights"]["digest"],
            ouzel=values["ouzel"],
        )
    except (KeyError, TypeError) as error:
        raise FailedPrecondition(f"model.json lacks something ({type(error).__name__}: {error})") from error
    except OuzelError as error:
        raise FailedPrecondition(f"model.json: {error}") from error
    if not isinstance(card.digest, str) or not _SHA256.fullmatch(card.digest.removeprefix("sha256:")):
        raise FailedPrecondition(f"model.json: weights.digest {card.digest!r:.80} is not a SHA-256")
    if not isinstance(values["labels"], list):
        raise FailedPrecondition("model.json: labels is not a list")
    if values.get("num_classes") != len(card.labels) or values.get("in_channels") != card.preprocessing.channels:
        raise FailedPrecondition("model.json: num_classes or in_channels contradicts labels or preprocessing")
    return card, dict(values)


def check_name(name: str) -> str:
    """The name, if it may be a model's: it becomes a file name and part of a URL. Raises InvalidArgument."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise InvalidArgument(
            f"name: {name!r:.80} is not 1 to 63 of a-z 0-9 . _ - that begin with a letter or digit, without ..",
            field="name",
        )
    return name


def check_version(version: str) -> str:
    """The version, if it may be a model's. Raises InvalidArgument."""
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise InvalidArgument(f"version: {version!r:.80} is not 1 to 31 letters, digits and dots", field="version")
    return version


def _check_library(written_by: object) -> None:
    """An archive works with the library that wrote it and with later ones of the same major version."""
    theirs = re.match(r"(\d+)\.(\d+)\.", written_by) if isinstance(written_by, str) else None
    if theirs is None:
        raise FailedPrecondition(f"model.json: ouzel {written_by!r:.40} is not a version")
    major, minor = map(int, ouzel.__version__.split(".")[:2])
    if int(theirs[1]) != major or int(theirs[2]) > minor:
        raise FailedPrecondition(
            f"the archive was made by ouzel {written_by} and needs {theirs[1]}.{theirs[2]} or a later "
            f"{theirs[1]}.x; installed is {ouzel.__version__}"
        )
