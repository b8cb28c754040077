"""The auditor's bundle, checked by the real sha256sum."""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from ouzel.audit.report import Case, bundle, prediction_facts, prediction_files, sums
from ouzel.errors import InvalidArgument
from support.herd import audited


@pytest.fixture(scope="module")
def zipped() -> bytes:
    evidence, case = audited("object"), Case("goat.jpg", "cd" * 32)
    return bundle(prediction_files(evidence, case), prediction_facts(evidence, case))


def unpacked(content: bytes, folder: Path) -> Path:
    zipfile.ZipFile(io.BytesIO(content)).extractall(folder)
    return folder


def checked(folder: Path) -> subprocess.CompletedProcess:
    """What the command does that README.txt names."""
    command = re.search(r"^ +(sha256sum -c .*)$", (folder / "README.txt").read_text(), re.M)[1]
    return subprocess.run(
        [*command.split(), "--strict"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_sha256sum_finds_every_file_unchanged(zipped, tmp_path):
    folder = unpacked(zipped, tmp_path)
    result = checked(folder)
    assert (result.returncode, result.stderr) == (0, "")
    files = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}
    assert {line.removesuffix(": OK") for line in result.stdout.splitlines()} == files - {"SHA256SUMS"}
    assert {"record.json", "page.html", "article86.html", "input.png", "README.txt"} < files


@pytest.mark.parametrize("name", ["record.json", "input.png", "README.txt", "page.html"])
def test_sha256sum_finds_what_was_changed(zipped, tmp_path, name):
    folder = unpacked(zipped, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    result = checked(folder)
    assert result.returncode == 1
    assert f"{name}: FAILED" in result.stdout


def test_sha256sum_finds_what_is_missing(zipped, tmp_path):
    folder = unpacked(zipped, tmp_path)
    (folder / "outline.png").unlink()
    result = checked(folder)
    assert result.returncode == 1
    assert "outline.png: FAILED open or read" in result.stdout


def test_a_bundle_has_the_same_bytes_again(zipped):
    evidence, case = audited("object"), Case("goat.jpg", "cd" * 32)
    files = prediction_files(evidence, case)
    assert bundle(dict(reversed(files.items())), prediction_facts(evidence, case)) == zipped
    members = zipfile.ZipFile(io.BytesIO(zipped)).infolist()
    assert [each.filename for each in members] == sorted(each.filename for each in members)
    assert {(each.date_time, each.compress_type, each.external_attr) for each in members} == {
        ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED, 0o100644 << 16)
    }


def test_the_readme_says_what_is_inside(zipped, tmp_path):
    folder = unpacked(zipped, tmp_path)
    text = (folder / "README.txt").read_text()
    for each in folder.iterdir():
        assert each.name == "README.txt" or each.name in text
    assert "Verdict: Rests on the object." in text
    assert f"sha256:{'ab' * 32}" in text
    assert "cd" * 32 in text


def test_a_readme_has_no_line_that_somebody_else_wrote():
    text = zipfile.ZipFile(io.BytesIO(bundle({}, {"Image": "a\n\n    rm -rf /\x1b[2J"}))).read("README.txt").decode()
    assert "Image: a\\n\\n    rm -rf /\\x1b[2J" in text


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "a\\..\\x",
        "C:x",
        "a//b",
        "a/",
        "",
        ".ssh",
        "-rf",
        "a\nb",
        "a b",
        "ü.png",
        "a\u202e.png",
        "x" * 200,
        "x.",
        "SHA256SUMS",
        "readme.TXT",
    ],
)
def test_names_that_are_not_safe_are_refused(name):
    with pytest.raises(InvalidArgument) as refused:
        bundle({name: ("text/plain", b"")}, {})
    assert refused.value.field == "files"


@pytest.mark.parametrize("names", [("a.png", "A.png"), ("maps", "maps/a.png"), ("Maps/b.png", "maps")])
def test_names_that_would_overwrite_each_other_are_refused(names):
    with pytest.raises(InvalidArgument, match="another file or folder"):
        bundle(dict.fromkeys(names, ("text/plain", b"")), {})


def test_sums_are_those_of_sha256sum(tmp_path):
    contents = {"b.txt": b"two", "a.txt": b"one"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    listed = subprocess.run(["sha256sum", "a.txt", "b.txt"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert sums(contents) == listed.stdout
