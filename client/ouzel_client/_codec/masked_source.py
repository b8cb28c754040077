"""Images with masks as callers have them, a folder or a zip file: made into images with label maps."""

from __future__ import annotations

import os
from pathlib import Path

from ouzel_client._codec import zips
from ouzel_client._codec.dataset_source import Files, Read, hashed
from ouzel_client.errors import InvalidArgument
from ouzel_protos import folders, manifest, mask_folders
from ouzel_protos.folders import BadFolder
from ouzel_protos.label_maps import BadMask
from ouzel_protos.manifest import BadEntry
from ouzel_protos.v1 import dataset_pb2 as pb


def collect_masked(source: str | os.PathLike[str], follow_links: bool = False) -> Files:
    """Read every file once, for its digest. Raises InvalidArgument that names the file at fault."""
    path = Path(source)
    left_out: list[tuple[str, str]] = []
    entries: list[pb.DatasetEntry] = []
    contents: dict[str, Read] = {}
    try:
        if path.is_dir():
            files, left_out = folders.walk(path, follow_links)
            reads: dict[str, Read] = {name: file.read_bytes for name, file in files.items()}
        elif path.is_file():
            reads = zips.members(path)
        else:
            raise InvalidArgument(f"source: {path} is neither a folder nor a zip file", field="source")
        found = mask_folders.collect(reads)
        for image in found.images:
            entry = pb.DatasetEntry(path=image.path, split=image.split)
            entry.file.CopyFrom(hashed(image.read, image.path, contents))
            try:
                entry.mask.CopyFrom(hashed(image.read_label_map, f"the mask of {image.path}", contents))
            except BadMask as error:
                raise InvalidArgument(f"source: {image.path}: mask: {error}", field="source") from None
            entries.append(entry)
        manifest.check(entries, found.classes)
    except BadEntry as error:
        raise InvalidArgument(str(error), field=error.field) from None
    except (BadFolder, BadMask) as error:
        raise InvalidArgument(f"source: {error}", field="source") from None
    except OSError as error:
        raise InvalidArgument(f"source: {error.filename or source}: {error.strerror}", field="source") from None
    return Files(entries, contents, (*found.left_out, *left_out), found.classes)
