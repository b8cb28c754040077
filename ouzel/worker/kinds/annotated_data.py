"""Images with label maps or boxes that a job learns from: an uploaded data set, or a folder that is named by URI."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, OuzelError
from ouzel.worker.kinds import training_data
from ouzel_protos import manifest
from ouzel_protos.folders import BadFolder
from ouzel_protos.label_maps import BadMask
from ouzel_protos.manifest import BadEntry
from ouzel_protos.objects import BadBoxes
from ouzel_protos.v1 import dataset_pb2 as pb

if TYPE_CHECKING:
    from ouzel.worker.kinds.context import JobContext

Read = Callable[[str], bytes]  # of a digest
Refer = Callable[[Callable[[], bytes]], pb.FileRef]  # reads a file once, and remembers how
LeftOut = Sequence[tuple[str, str]]
# The entries of a folder, the names of the classes, and what is left out; of what gives the content of each file.
Collect = Callable[[Mapping[str, Callable[[], bytes]], Refer], tuple[list[pb.DatasetEntry], tuple[str, ...], LeftOut]]


@dataclass(frozen=True)
class Used:
    """The images that a job can use.

    Attributes:
        entries: Of these images.
        classes: The names of the classes.
        read: Gives files.
        groups: The group of each image that has near duplicates, by its path.
    """

    entries: Sequence[pb.DatasetEntry]
    classes: tuple[str, ...]
    read: Read
    groups: Mapping[str, str]


def used(dataset: str, context: JobContext, field: str, collect: Collect) -> Used:
    """Looks at every image, and leaves out those that cannot be used.

    Args:
        dataset: Id of an upload, or a URI.
        context: Of the job; hears what was left out.
        field: "mask_classes" or "box_classes".
        collect: Reads a folder.

    Raises:
        OuzelError: The data set cannot be read or used.
    """
    if training_data.is_uri(dataset):
        entries, classes, read, left_out = _remote(dataset, field, collect)
        for name, reason in left_out[: training_data.MOST_TOLD]:
            context.log(f"left out: {name!r:.200}: {reason}")
        report = training_data.looker(context, **{field: classes})(entries, read)
    else:
        uploads, owner = context.uploads, context.owner
        classes = tuple(getattr(uploads.get(owner, dataset), field))
        entries = uploads.entries(owner, dataset)
        report = uploads.report(owner, dataset, training_data.looker(context, **{field: classes}))

        def read(sha256: str) -> bytes:
            return uploads.read(owner, sha256)

    if not report.usable:
        raise training_data.unusable(report)
    refused = {each.path for each in report.refused}
    for each in report.refused[: training_data.MOST_TOLD]:
        context.log(f"left out: {each.path!r:.200}: {each.reason}")
    for warning in report.warnings:
        context.log(warning)
    kept = [entry for entry in entries if entry.path not in refused]
    return Used(kept, classes, read, training_data.groups_of(report))


def _remote(uri: str, field: str, collect: Collect) -> tuple[list[pb.DatasetEntry], tuple[str, ...], Read, LeftOut]:
    """A folder elsewhere: each file is read once, for its digest, and again later."""
    import fsspec

    places: dict[str, Callable[[], bytes]] = {}

    def ref(read: Callable[[], bytes]) -> pb.FileRef:
        content = read()
        digest = hashlib.sha256(content).hexdigest()
        places[digest] = read
        return pb.FileRef(sha256=digest, size=len(content))

    try:
        system, root = fsspec.core.url_to_fs(uri)
        start = root.rstrip("/") + "/"
        names = {str(name).removeprefix(start): name for name in system.find(root)}
        entries, classes, left_out = collect(
            {name: partial(_whole, system, place) for name, place in names.items()}, ref
        )
        manifest.check(entries, **{field: classes})
    except (BadEntry, BadFolder, BadMask, BadBoxes) as error:
        raise InvalidArgument(f"dataset: {error}", field="dataset") from None
    except OuzelError:
        raise
    except Exception as error:  # its many file systems raise what they like; what they say may hold secrets
        raise NotFound(f"dataset: {uri!r:.200} cannot be read ({type(error).__name__})", field="dataset") from error

    def read(sha256: str) -> bytes:
        content = places[sha256]()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise FailedPrecondition(f"dataset: {uri!r:.200} has changed meanwhile", field="dataset")
        return content

    return sorted(entries, key=lambda entry: entry.path), classes, read, left_out


def _whole(system: Any, place: str) -> bytes:
    content: bytes = system.cat_file(place)
    return content
