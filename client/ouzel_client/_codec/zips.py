"""Images in a zip file, read where they are: nothing is unpacked, so that nothing can be written anywhere."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from ouzel_client.errors import InvalidArgument
from ouzel_protos import folders, manifest
from ouzel_protos.manifest import BadEntry
from ouzel_protos.zips import DAMAGED

_LARGEST = 8 * 2**30  # bytes of all members, unpacked
_RATIO = 100  # of unpacked to packed: images hardly shrink
_FREE = 2**20  # bytes that any member may have, however well it was packed
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_ENCRYPTED, _UTF8 = 0x1, 0x800
_HEADER = 30  # bytes of a member's own header, at least


def members(path: Path) -> dict[str, Callable[[], bytes]]:
    """How to read its files, by name, all seen to be harmless. Raises InvalidArgument that names the member.

    The archive stays open, and its directory is read once, as long as somebody holds one of them.
    """
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as error:
        raise InvalidArgument(f"source: {path} is not a zip file ({error})", field="source") from None
    try:
        infos = _checked(archive.infolist())
    except InvalidArgument:
        archive.close()
        raise
    return {_name(info): partial(_read, archive, info) for info in infos}


def _name(info: zipfile.ZipInfo) -> str:
    """The member's name. macOS writes UTF-8 without saying so, which then reads as the letters of an old DOS."""
    if info.flag_bits & _UTF8 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _checked(infos: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files among the members."""
    if len(infos) > manifest.MOST_IMAGES * 3:
        raise InvalidArgument(f"source: {len(infos)} members are too many", field="source")
    names: set[str] = set()
    for info in infos:
        _check(info)
        if info.filename in names:
            raise InvalidArgument(f"source: member {info.filename!r:.200} is there twice", field="source")
        names.add(info.filename)
    total = sum(info.file_size for info in infos)
    if total > _LARGEST:
        raise InvalidArgument(f"source: {total} bytes unpacked are more than {_LARGEST}", field="source")
    _check_overlaps(infos)
    return [info for info in infos if not info.is_dir()]


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """One member. Raises InvalidArgument if it is damaged."""
    try:
        with archive.open(info) as member:
            content = member.read(manifest.LARGEST_FILE + 1)
    except DAMAGED as error:
        raise InvalidArgument(f"source: member {info.filename!r:.200} is damaged ({error})", field="source") from None
    if len(content) != info.file_size:
        raise InvalidArgument(
            f"source: member {info.filename!r:.200} is not of the size that its header says", field="source"
        )
    return content


def _check(info: zipfile.ZipInfo) -> None:
    name = f"member {info.filename!r:.200}"
    # zipfile turns backslashes of some systems into slashes: look at what the file says.
    raw = getattr(info, "orig_filename", info.filename)
    try:
        if not folders.is_system(_name(info)):  # which is left out, whatever it is called: "Icon\r"
            manifest.check_path(raw.rstrip("/"), name)
    except BadEntry as error:
        raise InvalidArgument(f"source: {error}", field="source") from None
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidArgument(f"source: {name} is a link or a device", field="source")
    if info.flag_bits & _ENCRYPTED:
        raise InvalidArgument(f"source: {name} is encrypted", field="source")
    if PurePosixPath(info.filename).suffix.lower() in _ARCHIVES:
        raise InvalidArgument(f"source: {name} is an archive within the archive", field="source")
    if info.file_size > manifest.LARGEST_FILE:
        raise InvalidArgument(
            f"source: {name} has {info.file_size} bytes, more than {manifest.LARGEST_FILE}", field="source"
        )
    if info.file_size > max(_FREE, _RATIO * info.compress_size):
        raise InvalidArgument(f"source: {name} grows more than {_RATIO} times when unpacked", field="source")


def _check_overlaps(infos: list[zipfile.ZipInfo]) -> None:
    """Members that share bytes make bombs small."""
    end, last = 0, ""
    for info in sorted(infos, key=lambda each: each.header_offset):
        if info.header_offset < end:
            raise InvalidArgument(
                f"source: members {last!r:.200} and {info.filename!r:.200} overlap in the file", field="source"
            )
        end, last = info.header_offset + _HEADER + info.compress_size, info.filename
