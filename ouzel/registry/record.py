"""What a model store says of one model: its versions, and which of them is the default.

In a bucket this is one small object for each model, and each change of a model is one conditional write of it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from ouzel.errors import DataLoss, InvalidArgument, NotFound
from ouzel.model_names import check_name, check_version, version_key

_FORM = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredVersion:
    """A version of a model.

    Attributes:
        version: Its name.
        plain: Whether it is an operator's, whose archive is NAME.mar; else it is NAME@VERSION.mar.
        sha256: Of the archive, in hex.
        size: Of the archive, in bytes.
        key: Where the store has the archive.
        digest: "sha256:<hex>" of the weights.
        job: The job that made it; "" for an operator's.
        publication: Which of the versions of its job it is.
        held_back: Whether a gate has refused it as the default.
    """

    version: str
    plain: bool
    sha256: str
    size: int
    key: str
    digest: str = ""
    job: str = ""
    publication: int = 1
    held_back: bool = False


@dataclass(frozen=True)
class ModelRecord:
    """The versions of a model.

    Attributes:
        name: Of the model.
        versions: Lowest first; none if there is no such model any more.
        chosen: The version that was made the default; "" if none was. It may be one that cannot be read.
        wanted: Versions that are to be loaded although they are neither the default nor new: somebody waits for them.
        tag: Differs between two states of the record.
    """

    name: str
    versions: tuple[StoredVersion, ...] = ()
    chosen: str = ""
    wanted: tuple[str, ...] = ()
    tag: str = ""

    def find(self, version: str) -> StoredVersion | None:
        """A version; None if there is no such version."""
        return next((each for each in self.versions if each.version == version), None)

    def require(self, version: str) -> StoredVersion:
        """A version. Raises NotFound."""
        if (found := self.find(version)) is None:
            known = ", ".join(each.version for each in self.versions) or "none"
            raise NotFound(f"version: no version {version!r} of {self.name!r}, which has {known}", field="version")
        return found

    def file(self, version: StoredVersion) -> str:
        """The name of the file of a version in a folder."""
        return f"{self.name}.mar" if version.plain else f"{self.name}@{version.version}.mar"

    @property
    def default(self) -> str:
        """The version for callers who name none; "" if there is none.

        The rule of `ouzel.model_files`, but for a chosen version that cannot be read: no other one takes its place.
        """
        if self.chosen:
            return self.chosen
        plain = next((each.version for each in self.versions if each.plain), None)
        return plain or next((each.version for each in self.versions if not each.held_back), "")

    def with_version(self, added: StoredVersion) -> ModelRecord:
        """The record with one version more; an operator's takes the place of the operator's before.

        Who still waits for another one says so again: else all that anybody ever waited for would stay loaded.
        """
        left = [each for each in self.versions if each.version != added.version and not (each.plain and added.plain)]
        return replace(
            self, versions=tuple(sorted([*left, added], key=lambda each: version_key(each.version))), wanted=()
        )._sound()

    def without(self, version: str) -> ModelRecord:
        """The record without a version."""
        return replace(self, versions=tuple(each for each in self.versions if each.version != version))._sound()

    def promoted(self, version: str) -> ModelRecord:
        """The record with another default. Raises NotFound."""
        self.require(version)
        return replace(self, chosen=version, wanted=())

    def wanting(self, version: str) -> ModelRecord:
        """The record with a version that is to be loaded. Raises NotFound."""
        self.require(version)
        return replace(self, wanted=tuple(sorted({*self.wanted, version})))

    def _sound(self) -> ModelRecord:
        """Without what was said of versions that are gone."""
        names = {each.version for each in self.versions}
        chosen = self.chosen if self.chosen in names else ""
        return replace(self, chosen=chosen, wanted=tuple(each for each in self.wanted if each in names))

    def to_json(self) -> bytes:
        """The record as bytes, without its tag."""
        values = {
            "form": _FORM,
            "name": self.name,
            "default": self.chosen,
            "wanted": list(self.wanted),
            "versions": [asdict(each) for each in self.versions],
        }
        return json.dumps(values, indent=1, sort_keys=True).encode() + b"\n"


def parse(name: str, content: bytes, tag: str) -> ModelRecord:
    """A record that `to_json` made.

    Args:
        name: The model that it should be of.
        content: The bytes.
        tag: Of this state.

    Raises:
        DataLoss: It is not one.
    """
    try:
        values = json.loads(content)
        if values["form"] != _FORM:
            raise ValueError(f"its form is {values['form']!r:.20}, and {_FORM} is known")
        if check_name(values["name"]) != name:
            raise ValueError(f"it is of {values['name']!r}")
        versions = tuple(_version(name, each) for each in values["versions"])
        names = {each.version for each in versions}
        if len(names) < len(versions) or sum(each.plain for each in versions) > 1:
            raise ValueError("it has a version twice")
        chosen, wanted = str(values["default"]), tuple(map(str, values["wanted"]))
        if chosen and chosen not in names:
            raise ValueError(f"its default {chosen!r:.80} is none of its versions")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InvalidArgument) as error:
        raise DataLoss(f"the record of the model {name!r} is damaged: {error}") from error
    return ModelRecord(name, versions, chosen, wanted, tag)


def _version(name: str, values: Any) -> StoredVersion:
    made = StoredVersion(**values)
    check_version(made.version)
    kinds = (str, bool, str, int, str, str, str, int, bool)
    if not all(isinstance(value, kind) for value, kind in zip(values_of(made), kinds, strict=True)):
        raise TypeError("a value is of another type")
    if not _SHA256.fullmatch(made.sha256):
        raise ValueError(f"{made.sha256!r:.80} is not a SHA-256")
    if made.size < 0 or isinstance(made.size, bool):
        raise ValueError(f"{made.size!r:.80} is not a size")
    if not made.key.startswith(f"archives/{name}/") or ".." in made.key:  # who removes a version removes what it names
        raise ValueError(f"{made.key!r:.80} is not the key of an archive of this model")
    return made


def values_of(version: StoredVersion) -> tuple[Any, ...]:
    """The values of a version in their order."""
    return tuple(asdict(version).values())
