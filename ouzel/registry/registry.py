"""What a model store that many machines share can be asked, be it a bucket or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ouzel.registry.record import ModelRecord, StoredVersion


@dataclass(frozen=True)
class Told:
    """What an agent has told.

    Attributes:
        content: The bytes.
        modified: When it was stored, in seconds since the epoch, by the clock of the store.
    """

    content: bytes
    modified: float


class Registry(Protocol):
    """A model store. All methods raise StorageAway while it does not answer."""

    @property
    def where(self) -> str:
        """Its URL or folder, for messages to the operator."""

    def identity(self) -> str:
        """What tells this store from all others, wherever it is mounted; "" as long as nobody has asked for it."""

    def identify(self) -> str:
        """The same; a store that has none gets one, if it may be written to from here."""

    def names(self) -> Mapping[str, str]:
        """The models, and a tag of each that differs between two states of its record."""

    def record(self, name: str) -> ModelRecord | None:
        """What is known of a model; None if there is none, or none any more. Raises DataLoss."""

    def fetch(self, name: str, version: StoredVersion, path: Path) -> None:
        """Writes the archive of a version to a file.

        Args:
            name: Of the model.
            version: As its record says.
            path: Of the file, which need not be whole if this fails.

        Raises:
            DataLoss: The bytes are not those that the record describes.
            NotFound: It is gone.
            ResourceExhausted: The disk is full.
        """

    def want(self, name: str, version: str) -> None:
        """Has a version loaded although it is neither the default nor new. Raises NotFound."""

    def report(self, node: str, content: bytes) -> None:
        """Stores what an agent tells; it takes the place of what it told before."""

    def reports(self) -> Mapping[str, Told]:
        """What agents have told last, by their names."""

    def forget(self, node: str) -> None:
        """Removes what an agent has told."""
