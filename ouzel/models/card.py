"""model.json, the card in every archive: what the weights are and how to feed them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ouzel
from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.model_names import check_name, check_version
from ouzel.models.labels import check_labels
from ouzel.models.preprocessing import Preprocessing
from ouzel.precision_names import EXACT, Precision, check_precision
from ouzel.task_names import CLASSIFICATION, Task, check_task

SCHEMA = 1
LARGEST_LINEAGE = 64 * 2**10  # bytes, as JSON
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Card:
    """`digest` is "sha256:<hex>" of weights.safetensors; `ouzel` the version of the library that wrote the archive.

    `lineage` is None but for tuned models. Its values are JSON's, its keys free; these are used: job, owner, base,
    base_version, base_digest, dataset, recipe, seed, metrics, libraries. At most 64 KiB. `precision` is what the model
    is served in; a card without it is of a model that is served exactly. `task` is what the model is for; a card
    without it is of a classifier.
    """

    name: str
    version: str
    arch: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    digest: str = ""  # filled in when the weights are packed
    ouzel: str = ouzel.__version__
    lineage: Mapping[str, Any] | None = None
    precision: Precision = EXACT
    task: Task = CLASSIFICATION

    def to_json(self) -> bytes:
        """The same card always gives the same bytes. Raises InvalidArgument for a field that is wrong."""
        labels = check_labels(self.labels)
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "ouzel": self.ouzel,
            "name": self.name,
            "version": self.version,
            "arch": self.arch,
            "num_classes": len(labels),
            "in_channels": self.preprocessing.channels,
            "preprocessing": self.preprocessing.to_dict(),
            "labels": list(labels),
            "weights": {"file": "weights.safetensors", "digest": self.digest},
        }
        if check_precision("precision", self.precision) != EXACT:
            content["precision"] = self.precision
        if check_task("task", self.task) != CLASSIFICATION:
            content["task"] = self.task
        if check_lineage(self.lineage) is not None:
            content["lineage"] = self.lineage
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
            lineage=check_lineage(values.get("lineage")),
            precision=check_precision("precision", values.get("precision", EXACT)),
            task=check_task("task", values.get("task", CLASSIFICATION)),
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
    return card, {**values, "labels": list(card.labels), "precision": card.precision, "task": card.task}


def check_lineage(lineage: object) -> Mapping[str, Any] | None:
    """The lineage, if it is None or a JSON object of at most 64 KiB. Raises InvalidArgument."""
    if lineage is None:
        return None
    if not isinstance(lineage, Mapping):
        raise InvalidArgument(f"lineage: {lineage!r:.80} is not an object", field="lineage")
    try:
        size = len(json.dumps(dict(lineage), allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"lineage: holds what is not JSON ({error})", field="lineage") from error
    if size > LARGEST_LINEAGE:
        raise InvalidArgument(f"lineage: {size} bytes are more than {LARGEST_LINEAGE}", field="lineage")
    return lineage


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
