"""Data sets of callers: what they mean, and the images by their digest. Shared by all workers of a store.

OWNER/files/            content-addressed, see `artifacts`
OWNER/manifests/ID      the canonical manifest, whose SHA-256 is ID
OWNER/manifests/ID.about    title, time and counts; a data set exists once this does
OWNER/manifests/ID.report   what was found when its images were looked at
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from ouzel.worker.datasets.opening import open_storage
from ouzel.worker.datasets.uploads import Reservation, Upload, checked
from ouzel.worker.isolated import Isolated
from ouzel.worker.store.job import timestamp
from ouzel_protos import manifest
from ouzel_protos.text import is_line
from ouzel_protos.v1 import dataset_pb2 as pb

# Looks at the images of a data set, given its entries, and the bytes of a file by its digest.
Look = Callable[[Sequence[pb.DatasetEntry], Callable[[str], bytes]], pb.DatasetReport]
_ID = re.compile(r"[0-9a-f]{64}")
_ABOUT, _REPORT = ".about", ".report"
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
        place: Folder, or "s3://BUCKET/PREFIX"; shared by all workers of a store.
        limits: Of one owner.
        isolated: Has images looked at.
        cache: Folder on this machine for files of a bucket; a folder needs none.

    Raises:
        InvalidArgument: A package or the cache is missing.
    """

    def __init__(
        self,
        place: str | Path,
        limits: DatasetLimits | None = None,
        isolated: Isolated | None = None,
        cache: Path | None = None,
    ) -> None:
        self._storage = open_storage(place, cache)
        self._limits, self._isolated = limits or DatasetLimits(), isolated or Isolated()
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
        sizes = self._storage.files(owner).hold([file.sha256 for file in files])  # young again: `collect` leaves them
        return [file.sha256 for file in files if sizes.get(file.sha256) != file.size]

    def upload(self, owner: str, reservation: Reservation | None = None) -> Upload:
        """Opens an upload of files that come in pieces, one after another.

        Args:
            owner: Who calls.
            reservation: Has room for each of them; None if there is enough.
        """
        return Upload(self._storage.files(owner), self._limits.bytes - self.used(owner), reservation)

    def used(self, owner: str) -> int:
        """Size of the owner's files in bytes."""
        return self._storage.files(owner).total()

    def total(self) -> int:
        """Size of all that is stored in bytes."""
        return self._storage.total()

    def check(self) -> None:
        """Whether it can be written. Raises Unavailable."""
        self._storage.check()

    def create(
        self,
        owner: str,
        title: str,
        entries: Sequence[pb.DatasetEntry],
        expected: str = "",
        mask_classes: Sequence[str] = (),
        *,
        box_classes: Sequence[str] = (),
    ) -> pb.Dataset:
        """Makes a data set durable. The same one again changes nothing.

        Args:
            owner: Who calls.
            title: One line.
            entries: The images.
            expected: The id that the client computed; "" allows any.
            mask_classes: Names of the classes of label maps; empty for other images.
            box_classes: Names of the classes of boxes; empty for other images.

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
        checked(manifest.check, entries, mask_classes, box_classes)
        labelled = not (mask_classes or box_classes)
        if labelled:
            checked(manifest.check_classes, entries)
        elif not entries:
            raise InvalidArgument("entries: there is no image", field="entries")
        content = manifest.canonical(entries, mask_classes, box_classes)
        digest = manifest.digest(entries, mask_classes, box_classes)
        if expected and expected != digest:
            raise InvalidArgument(f"id: the manifest has the digest {digest}, not {expected:.80}", field="id")
        self._check_files(owner, entries)
        if (known := self._about(owner, digest)) is not None:
            return known
        if len(self._storage.all(owner, _ABOUT)) >= self._limits.datasets:
            raise ResourceExhausted(f"datasets: there are {self._limits.datasets}, the most of one owner; delete some")
        about = pb.Dataset(
            id=digest,
            title=title,
            create_time=timestamp(time.time()),
            images=len(entries),
            bytes=sum(each.file.size for each in entries),
            classes=Counter(each.label for each in entries if labelled),
            masks=sum(each.HasField("mask") for each in entries),
            mask_classes=mask_classes,
            box_classes=box_classes,
            boxes=sum(len(each.boxes) for each in entries),
        )
        for name, held in ((digest, content), (digest + _ABOUT, about.SerializeToString())):
            self._storage.write(owner, name, held)
        return about

    def get(self, owner: str, dataset: str) -> pb.Dataset:
        """A data set's title, time and counts."""
        about = self._about(owner, dataset) if _ID.fullmatch(dataset) else None
        if about is None:
            raise NotFound(f"dataset: no data set {dataset!r:.80}", field="dataset")
        return about

    def entries(self, owner: str, dataset: str) -> list[pb.DatasetEntry]:
        """The images of a data set, sorted by path."""
        self.get(owner, dataset)
        return manifest.read(self._content(owner, dataset))

    def read(self, owner: str, sha256: str) -> bytes:
        """One of the owner's files. Raises NotFound or DataLoss."""
        return self._storage.files(owner).get(sha256)

    def list(self, owner: str) -> list[pb.Dataset]:
        """The owner's data sets, newest first."""
        datasets = [pb.Dataset.FromString(content) for content in self._storage.all(owner, _ABOUT).values()]
        return sorted(datasets, key=lambda about: (-about.create_time.ToNanoseconds(), about.id))

    def delete(self, owner: str, dataset: str) -> None:
        """Removes a data set. Files that no data set needs are removed by a later `collect`."""
        self.get(owner, dataset)
        for name in (dataset + _ABOUT, dataset + _REPORT, dataset):
            self._storage.delete(owner, name)
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

        return self._storage.files(owner).collect(referenced, age)

    def collect_all(self) -> None:
        """Does `collect` for all owners."""
        for owner in self._storage.owners():
            self.collect(owner)

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
        if (known := self._report(owner, dataset)) is not None:  # without waiting for the check of another data set
            return known
        with self._checking:
            if (known := self._report(owner, dataset)) is not None:
                return known
            if look is not None:
                report = look(self.entries(owner, dataset), self._storage.files(owner).get)
            else:
                report = self._looked_at(owner, dataset)
            self._storage.write(owner, dataset + _REPORT, report.SerializeToString(deterministic=True))
            return report

    def _looked_at(self, owner: str, dataset: str) -> pb.DatasetReport:
        with tempfile.NamedTemporaryFile() as file:
            file.write(self._content(owner, dataset))
            file.flush()
            arguments = (file.name, *self._storage.files_place(owner))
            printed = self._isolated.ask("ouzel.worker.datasets.check", *arguments, seconds=_CHECK_SECONDS)
        if not printed:
            raise Unavailable(f"dataset: {dataset} could not be checked; the worker's log says why")
        return pb.DatasetReport.FromString(printed)

    def _check_files(self, owner: str, entries: Sequence[pb.DatasetEntry]) -> None:
        wanted = [
            (entry.path, file)
            for entry in entries
            for file in ((entry.file, entry.mask) if entry.HasField("mask") else (entry.file,))
        ]
        sizes = self._storage.files(owner).hold([file.sha256 for _, file in wanted])
        for path, file in wanted:
            if sizes.get(file.sha256) != file.size:
                raise FailedPrecondition(
                    f"entries: the file of {path!r:.200} ({file.sha256}, {file.size} bytes) was not uploaded",
                    field="entries",
                )

    def _content(self, owner: str, dataset: str) -> bytes:
        """The canonical manifest. Raises NotFound or DataLoss."""
        content = self._storage.read(owner, dataset)
        if content is None:
            raise NotFound(f"dataset: no data set {dataset!r:.80}", field="dataset")
        if hashlib.sha256(content).hexdigest() != dataset:
            raise DataLoss(f"dataset: the manifest of {dataset} is damaged")
        return content

    def _about(self, owner: str, dataset: str) -> pb.Dataset | None:
        content = self._storage.read(owner, dataset + _ABOUT)
        return None if content is None else pb.Dataset.FromString(content)

    def _report(self, owner: str, dataset: str) -> pb.DatasetReport | None:
        """None if there is none that can be read; then it is made again."""
        try:
            content = self._storage.read(owner, dataset + _REPORT)
            return None if content is None else pb.DatasetReport.FromString(content)
        except (DataLoss, DecodeError):
            return None
