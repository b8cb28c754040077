"""The auditor's bundle: a zip with all files of an audit, which `sha256sum -c SHA256SUMS` checks.

The bytes depend on nothing but the files: names are sorted, times are fixed, nothing is compressed.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping

from ouzel.audit.report.files import Files
from ouzel.errors import InvalidArgument
from ouzel.pages.texts import visible

SUMS, README = "SHA256SUMS", "README.txt"
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can state
_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_])?")
_MODE = 0o100644 << 16  # a plain file, as zip states it
_UNIX = 3

_WHAT = {
    "page.html": "the audit, for people who know the field",
    "report.html": "the audit of the data set, for people",
    "article86.html": "the audit, for the person that the decision is about",
    "record.json": "what was audited and what was measured, for programs (JSON, RFC 8785)",
    "audit.json": "what was audited and what was measured, for programs (JSON, RFC 8785)",
    "predictions.csv": "one line for each image",
    "input.png": "what the model saw",
    "outline.png": "what the model saw, with a line round the object",
    "mask.png": "where the object is (white)",
    "maps": "where the model looks: values (.npy) and pictures",
    "counterfactuals": "every changed picture; record.json says how each was made and what the model answered",
}


def bundle(files: Files, facts: Mapping[str, str], *, title: str = "Audit of a prediction") -> bytes:
    """The files as a zip, with README.txt and SHA256SUMS.

    Args:
        files: By name, the media type and the content.
        facts: What README.txt says of the audit: name and text, such as digests of model and data.
        title: Of README.txt.

    Returns:
        The zip; the same bytes for the same arguments.

    Raises:
        InvalidArgument: A name leads outside, holds other characters than letters, digits, ".", "_", "-" and "/", has
            a part that begins or ends with "." or "-", is taken, or differs from another one in case only.
    """
    check_names(files)
    contents = {name: content for name, (_, content) in files.items()}
    contents[README] = readme(files, facts, title=title).encode()
    contents[SUMS] = sums(contents)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, _TIME)
            member.create_system, member.external_attr = _UNIX, _MODE
            archive.writestr(member, contents[name])
    return out.getvalue()


def sums(contents: Mapping[str, bytes]) -> bytes:
    """SHA256SUMS, as `sha256sum` writes and checks it.

    Args:
        contents: By name.
    """
    return "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)).encode()


def check_names(files: Files) -> None:
    """Refuses names that are not safe in a zip; see `bundle`."""
    folders = {name[: name.rindex("/")].lower() for name in files if "/" in name}
    taken: dict[str, str] = {README.lower(): README, SUMS.lower(): SUMS}
    for name in files:
        if not all(_PART.fullmatch(part) for part in name.split("/")):
            raise InvalidArgument(f"files: {name!r:.120} is not a safe name for a member of a zip", field="files")
        if taken.setdefault(name.lower(), name) != name or name in (README, SUMS) or name.lower() in folders:
            raise InvalidArgument(f"files: {name!r:.120} is the name of another file or folder", field="files")


def readme(files: Files, facts: Mapping[str, str], *, title: str) -> str:
    """README.txt; arguments as those of `bundle`."""
    tops = {name.partition("/")[0] for name in files}
    inside = [name for name in _WHAT if name in tops] + sorted(tops - _WHAT.keys())
    lines = [
        visible(title, 200),
        "",
        *(f"{visible(name, 80)}: {visible(text, 300)}" for name, text in facts.items() if text),
        "",
        "What is inside",
        "",
        *(f"  {name:<16} {_WHAT.get(name, 'pictures and figures of this audit')}" for name in inside),
        f"  {SUMS:<16} the SHA-256 of each other file",
        "",
        "How to check it",
        "",
        "Unpack the zip, open a terminal in the folder that holds this file, and run:",
        "",
        f"    sha256sum -c {SUMS}",
        "",
        'Each file must be "OK". On macOS the command is: shasum -a 256 -c SHA256SUMS',
        "",
        "This shows that no file was damaged or changed since SHA256SUMS was written. Somebody who changes a file can",
        "also write SHA256SUMS again. So compare the output of",
        "",
        f"    sha256sum {SUMS}",
        "",
        "with the value that the operator of the audit noted elsewhere.",
        "",
        "The pages need no network and run no program code. Open them in a browser.",
        "",
    ]
    return "\n".join(lines)
