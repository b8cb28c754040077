"""Data sets of callers, as files: what they mean, and the images by their digest. Shared by all workers of a store.

OWNER/files/            content-addressed, see `artifacts`
OWNER/manifests/ID      the canonical manifest, whose SHA-256 is ID
OWNER/manifests/ID.about    title, time and counts; a data set exists once this does
OWNER/manifests/ID.report   what was found when its images were looked at
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from ouzel.durable_files import FULL, written
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.datasets.uploads import Upload, checked
from ouzel.worker.isolated import Isolated
from ouzel.worker.store.job import timestamp
from ouzel_protos import manifest
from ouzel_protos.text import is_line
from ouzel_protos.v1 import dataset_pb2 as pb

# Looks at the images of a data set, given its entries, and the bytes of a file by its digest.
Look = Callable[[Sequence[pb.DatasetEntry], Callable[[str], bytes]], pb.DatasetReport]
_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST_TITLE = 128
_CHECK_SECONDS = 3600.0
_DAY = 86_400.0


@dataclass(frozen=True)
class DatasetLimits:
    """Limits of one owner.

    Attributes:
        bytes: Of all files together.
        datasets: How many data sets.
    """

    bytes: int = 50 * 2**30
    datasets: int = 1000


class Datasets:
    """The data sets of callers. All methods raise NotFound for what is not the owner's.

    Args:
        folder: Shared by all workers of a store.
        limits: Of one owner.
        isolated: Has images looked at.
    """

    def __init__(self, folder: Path, limits: DatasetLimits | None = None, isolated: Isolated | None = None) -> None:
        self._folder, self._limits, self._isolated = folder, limits or DatasetLimits(), isolated or Isolated()
        self._checking = threading.Lock()  # one at a time: it takes all cores

    def missing(self, owner: str, files: Sequence[pb.FileRef]) -> list[str]:
        """Which files must be uploaded still.

        Args:
            owner: Who calls.
            files: With digest and size.

        Returns:
            Digests of those that are not stored.

        Raises:
            InvalidArgument: A digest or size cannot be one.
        """
        for number, file in enumerate(files):
            checked(manifest.check_file, file, f"files[{number}]")
        held = self._files(owner)
        missing = []
        for file in files:
            if held.size(file.sha256) != file.size:
                missing.append(file.sha256)
            else:  # young again, so that `collect` leaves it for the data set to come
                os.utime(held.path(file.sha256))
        return missing

    def upload(self, owner: str) -> Upload:
        """Opens an upload of files that come in pieces, one after another."""
        return Upload(self._files(owner), self._limits.bytes - self.used(owner))

    def used(self, owner: str) -> int:
        """Size of the owner's files in bytes."""
        return sum(path.stat().st_size for path in (self._of(owner) / "files").glob("??/*"))

    def create(
        self,
        owner: str,
        title: str,
        entries: Sequence[pb.DatasetEntry],
        expected: str = "",
        mask_classes: Sequence[str] = (),
    ) -> pb.Dataset:
        """Makes a data set durable. The same one again changes nothing.

        Args:
            owner: Who calls.
            title: One line.
            entries: The images.
            expected: The id that the client computed; "" allows any.
            mask_classes: Names of the classes of label maps; empty for images with labels.

        Returns:
            The data set; its id is the SHA-256 of its manifest.

        Raises:
            InvalidArgument: Title, entries or id are wrong.
            FailedPrecondition: Files are missing.
            ResourceExhausted: There are too many data sets, or the disk is full.
        """
        if len(title) > _LONGEST_TITLE or not is_line(title):
            raise InvalidArgument(
                f"title: {title!r:.80} is not a line of at most {_LONGEST_TITLE} characters", field="title"
            )
        checked(manifest.check, entries, mask_classes)
        if not mask_classes:
            checked(manifest.check_classes, entries)
        elif not entries:
            raise InvalidArgument("entries: there is no image", field="entries")
        content = manifest.canonical(entries, mask_classes)
        digest = manifest.digest(entries, mask_classes)
        if expected and expected != digest:
            raise InvalidArgument(f"id: the manifest has the digest {digest}, not {expected:.80}", field="id")
        self._check_files(owner, entries)
        folder = self._manifests(owner)
        if (known := self._about(folder / f"{digest}.about")) is not None:
            return known
        if len(list(folder.glob("*.about"))) >= self._limits.datasets:
            raise ResourceExhausted(f"datasets: there are {self._limits.datasets}, the most of one owner; delete some")
        about = pb.Dataset(
            id=digest,
            title=title,
            create_time=timestamp(time.time()),
            images=len(entries),
            bytes=sum(each.file.size for each in entries),
            classes=Counter(each.label for each in entries if not mask_classes),
            masks=sum(each.HasField("mask") for each in entries),
            mask_classes=mask_classes,
        )
        for name, held in ((digest, content), (f"{digest}.about", about.SerializeToString())):
            self._write(folder / name, held)
        return about

    def get(self, owner: str, dataset: str) -> pb.Dataset:
        """A data set's title, time and counts."""
        about = self._about(self._manifests(owner) / f"{dataset}.about") if _ID.fullmatch(dataset) else None
        if about is None:
            raise NotFound(f"dataset: no data set {dataset!r:.80}", field="dataset")
        return about

    def entries(self, owner: str, dataset: str) -> list[pb.DatasetEntry]:
        """The images of a data set, sorted by path."""
        self.get(owner, dataset)
        return manifest.read((self._manifests(owner) / dataset).read_bytes())

    def path(self, owner: str, sha256: str) -> Path:
        """Path of one of the owner's files."""
        return self._files(owner).path(sha256)

    def list(self, owner: str) -> list[pb.Dataset]:
        """The owner's data sets, newest first."""
        known = (self._about(path) for path in self._manifests(owner).glob("*.about"))
        datasets = [about for about in known if about is not None]
        return sorted(datasets, key=lambda about: (-about.create_time.ToNanoseconds(), about.id))

    def delete(self, owner: str, dataset: str) -> None:
        """Removes a data set. Files that no data set needs are removed by a later `collect`."""
        self.get(owner, dataset)
        for name in (f"{dataset}.about", f"{dataset}.report", dataset):
            (self._manifests(owner) / name).unlink(missing_ok=True)
        self.collect(owner)

    def collect(self, owner: str, age: float = _DAY) -> int:
        """Removes old files that no data set of the owner has.

        Args:
            owner: Whose.
            age: Age in seconds from which on a file may be removed.

        Returns:
            How many files were removed.
        """

        def referenced(digests: Sequence[str]) -> set[str]:
            needed: set[str] = set()
            for about in self.list(owner):
                for entry in self.entries(owner, about.id):
                    needed |= {entry.file.sha256, entry.mask.sha256}
            return needed & set(digests)

        return self._files(owner).collect(referenced, age)

    def collect_all(self) -> None:
        """Does `collect` for all owners."""
        for folder in self._folder.glob("*/files"):
            self.collect(folder.parent.name)

    def report(self, owner: str, dataset: str, look: Look | None = None) -> pb.DatasetReport:
        """What a look at every image finds. Takes seconds to minutes the first time.

        Args:
            owner: Who calls.
            dataset: Id of the data set.
            look: Does it; None leaves it to a process of its own.

        Raises:
            Unavailable: The check failed; the worker's log says why.
        """
        self.get(owner, dataset)
        path = self._manifests(owner) / f"{dataset}.report"
        if (known := _parsed(path)) is not None:  # without waiting for the check of another data set
            return known
        with self._checking:
            if (known := _parsed(path)) is not None:
                return known
            if look is not None:
                report = look(self.entries(owner, dataset), self._files(owner).get)
            else:
                report = self._looked_at(owner, dataset)
            self._write(path, report.SerializeToString(deterministic=True))
            return report

    def _looked_at(self, owner: str, dataset: str) -> pb.DatasetReport:
        places = (self._manifests(owner) / dataset, self._of(owner) / "files")
        printed = self._isolated.ask("ouzel.worker.datasets.check", *map(str, places), seconds=_CHECK_SECONDS)
        if not printed:
            raise Unavailable(f"dataset: {dataset} could not be checked; the worker's log says why")
        return pb.DatasetReport.FromString(printed)

    def _check_files(self, owner: str, entries: Sequence[pb.DatasetEntry]) -> None:
        held = self._files(owner)
        for entry in entries:
            for file in (entry.file, entry.mask) if entry.HasField("mask") else (entry.file,):
                if held.size(file.sha256) != file.size:
                    raise FailedPrecondition(
                        f"entries: the file of {entry.path!r:.200} ({file.sha256}, {file.size} bytes) was not uploaded",
                        field="entries",
                    )

    def _of(self, owner: str) -> Path:
        # Owners are names that tokens.py has checked: no separators, and never "." or "..".
        return self._folder / owner

    def _files(self, owner: str) -> FolderArtifacts:
        return FolderArtifacts(self._of(owner) / "files")

    def _manifests(self, owner: str) -> Path:
        folder = self._of(owner) / "manifests"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        try:
            with written(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise ResourceExhausted(f"the disk of the data sets is full ({error.strerror})") from error

    @staticmethod
    def _about(path: Path) -> pb.Dataset | None:
        try:
            return pb.Dataset.FromString(path.read_bytes())
        except FileNotFoundError:
            return None


def _parsed(path: Path) -> pb.DatasetReport | None:
    try:
        return pb.DatasetReport.FromString(path.read_bytes())
    except (FileNotFoundError, DecodeError):
        return None
