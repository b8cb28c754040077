"""Data sets from folders, zip files and pairs; what travels, and what is refused before anything does."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ouzel_client import AsyncClient, Client, Dataset, InvalidArgument, NotFound, Retry, Unavailable
from ouzel_client._cli.main import main
from ouzel_client.testing import FakeServer
from ouzel_protos import manifest


def png(seed: int, size: int = 8) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


FILES = {f"{label}/{n}.png": png(10 * k + n) for k, label in enumerate(("cat", "dog")) for n in range(3)}


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def client(server):
    with Client(server.target, worker=server.target, retry=Retry(attempts=3, initial=0.01)) as opened:
        yield opened


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zipped(path: Path, files: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_folder_and_a_zip_of_it_are_the_same_data_set(client, server, tmp_path):
    made = client.datasets.upload(folder(tmp_path / "pets", FILES), title="pets")
    assert isinstance(made, Dataset)
    assert (made.title, made.images, dict(made.classes), made.masks) == ("pets", 6, {"cat": 3, "dog": 3}, 0)
    assert made.bytes == sum(map(len, FILES.values()))
    assert sorted(server.datasets.files.values()) == sorted(FILES.values())
    for name, prefix in (("flat.zip", ""), ("deep.zip", "pets/")):
        again = client.datasets.upload(zipped(tmp_path / name, {prefix + k: v for k, v in FILES.items()}))
        assert again.id == made.id
    assert len(server.datasets.received) == 6  # nothing travelled twice
    assert client.datasets.get(made.id) == made
    assert [each.id for each in client.datasets.list()] == [made.id]
    assert client.datasets.check(made.id).usable
    client.datasets.delete(made.id)
    with pytest.raises(NotFound):
        client.datasets.get(made.id)


def test_only_new_files_travel(client, server, tmp_path):
    client.datasets.upload(folder(tmp_path, FILES))
    folder(tmp_path, {"cat/new.png": png(99), "dog/copy.png": FILES["cat/0.png"]})
    client.datasets.upload(tmp_path)
    assert len(server.datasets.received) == 7


def test_pairs_of_image_and_label(client, server, tmp_path):
    (tmp_path / "x.png").write_bytes(png(1))
    pixels = np.random.default_rng(5).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    pairs = [(tmp_path / "x.png", "a"), (png(2), "b"), (Image.fromarray(pixels), "b"), (pixels[::-1].copy(), "a")]
    made = client.datasets.upload(iter(pairs))
    assert dict(made.classes) == {"a": 2, "b": 2}
    seen = [np.asarray(Image.open(io.BytesIO(each)).convert("RGB")) for each in server.datasets.files.values()]
    assert any(np.array_equal(each, pixels) for each in seen)
    assert any(np.array_equal(each, pixels[::-1]) for each in seen)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([(png(1), 3)], r"source\[0\]: the label 3 is no text"),
        ([png(1)], r"source\[0\]: is no \(image, label\)"),
        ([(png(1), "a")], "only the class 'a'"),
        ([(png(1), "a"), (b"GIF89a", "b")], "neither PNG, JPEG nor WebP"),
        ([(png(1), "a"), (np.zeros((3, 8, 8), np.float32), "b")], "no image"),
        ([(png(1), "a"), (png(2), "")], r"label"),
        ([("/nowhere/x.png", "a")], "/nowhere/x.png"),
        ([], "no image"),
    ],
)
def test_bad_pairs_are_named(client, server, pairs, said):
    with pytest.raises(InvalidArgument, match=said):
        client.datasets.upload(pairs)
    assert not server.datasets.received


def test_a_dropped_connection_costs_only_the_file_that_was_on_its_way(client, server, tmp_path):
    server.datasets.cut = 2
    made = client.datasets.upload(folder(tmp_path, FILES))
    assert made.images == 6
    assert len(server.datasets.received) == len(set(server.datasets.received)) == 6


def test_a_worker_that_stays_away_is_told_of(client, server, tmp_path):
    server.fail_next("UNAVAILABLE", times=100)
    with pytest.raises(Unavailable):
        client.datasets.upload(folder(tmp_path, FILES))


def test_a_file_that_vanishes_while_others_travel_is_an_error(client, tmp_path, monkeypatch):
    from ouzel_client._async import _datasets as _  # noqa: F401 - both twins use the same parts
    from ouzel_client._sync import _datasets

    real = _datasets.collect

    def collect(*arguments):
        result = real(*arguments)
        os.unlink(tmp_path / "dog/2.png")
        return result

    folder(tmp_path, FILES)
    monkeypatch.setattr(_datasets, "collect", collect)
    with pytest.raises(FileNotFoundError):
        client.datasets.upload(tmp_path)


def test_masks_go_along(client, tmp_path):
    masks = folder(tmp_path / "masks", {"cat/0.png": png(50), "dog/1.png": png(51)})
    made = client.datasets.upload(folder(tmp_path / "images", FILES), masks=masks)
    assert made.masks == 2
    with pytest.raises(InvalidArgument, match="masks"):
        client.datasets.upload(tmp_path / "images", masks=folder(tmp_path / "others", {"x/1.png": png(1)}))


def test_boxes_go_along(client, server, tmp_path):
    boxes = {"cat/0.png": [(0, 1, 4.5, 8)]}
    made = client.datasets.upload(folder(tmp_path, FILES), boxes=boxes)
    entry = server.datasets._known[made.id][1][0]
    assert [(box.left, box.top, box.right, box.bottom) for box in entry.boxes] == boxes["cat/0.png"]
    for bad, said in (({"cat/7.png": []}, "no image 'cat/7.png'"), ({"cat/0.png": [(1, 2)]}, "is no left, top")):
        with pytest.raises(InvalidArgument, match=said):
            client.datasets.upload(tmp_path, boxes=bad)


def test_folders_may_say_what_images_are_for(client, server, tmp_path):
    files = {
        f"{part}/{name}": content
        for part, (name, content) in zip(("train", "val", "test"), FILES.items(), strict=False)
    }
    with pytest.raises(InvalidArgument, match="only the class 'cat'"):
        client.datasets.upload(folder(tmp_path, files))
    made = client.datasets.upload(folder(tmp_path, {"train/dog/9.png": png(9)}))
    entries = server.datasets._known[made.id][1]
    assert {entry.split for entry in entries} == {"train", "validation", "test"}


def test_a_link_out_of_the_folder_is_not_followed(client, tmp_path):
    folder(tmp_path / "pets", FILES)
    (tmp_path / "secret.png").write_bytes(png(1))
    (tmp_path / "pets/cat/link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InvalidArgument, match="leads out of"):
        client.datasets.upload(tmp_path / "pets")


def test_links_are_followed_on_request(client, server, tmp_path):
    folder(tmp_path / "pets", FILES)
    folder(tmp_path / "elsewhere", {"1.png": png(70), "2.png": png(71)})
    (tmp_path / "pets/bird").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidArgument, match="bird is a link that leads out of"):
        client.datasets.upload(tmp_path / "pets")
    assert client.datasets.upload(tmp_path / "pets", follow_links=True).classes["bird"] == 2


def test_what_is_left_out_is_told(client, server, tmp_path, monkeypatch):
    folder(tmp_path / "pets", FILES | {"cat/Thumbs.db": b"x", "README.txt": b"x"})
    left_out = (("README.txt", "no PNG, JPEG or WebP file by its suffix"),)
    left_out += (("cat/Thumbs.db", "hidden, or of the operating system"),)
    made = client.datasets.upload(tmp_path / "pets")
    assert (made.images, made.left_out) == (6, left_out)
    assert client.datasets.get(made.id).left_out == ()
    monkeypatch.setenv("OUZEL_WORKER", server.target)
    said = CliRunner().invoke(main, ["datasets", "upload", str(tmp_path / "pets")])
    told = [line for line in said.stderr.splitlines() if not line.startswith("sending: ")]
    assert told[:2] == [f"left out: {name!r}: {reason}" for name, reason in left_out]


def test_one_label_in_two_forms_of_unicode(client, server, tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    files = {
        f"{composed}/1.png": png(1),
        f"{decomposed}/2.png": png(2),
        f"{decomposed}/1.png": png(3),
        "b/1.png": png(4),
    }
    (tmp_path / "masks" / decomposed).mkdir(parents=True)
    (tmp_path / "masks" / decomposed / "2.png").write_bytes(png(9))
    boxes = {f"{decomposed}/2.png": [(1, 1, 2, 2)]}
    for source in (folder(tmp_path / "in", files), zipped(tmp_path / "in.zip", files)):
        made = client.datasets.upload(source, masks=tmp_path / "masks", boxes=boxes)
        assert (dict(made.classes), made.masks) == ({composed: 2, "b": 1}, 1)
        ((name, reason),) = made.left_out
        assert name in (f"{composed}/1.png", f"{decomposed}/1.png")
        assert "in another Unicode form" in reason


def test_a_zip_of_macos_names_its_members_in_utf_8(client, tmp_path):
    path = zipped(tmp_path / "x.zip", {f"{label}/{n}.png": png(n) for n, label in enumerate(["cafe\u0301", "b"])})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + offset] &= ~8  # does not say that it is UTF-8
    path.write_bytes(content)
    assert set(client.datasets.upload(path).classes) == {"caf\u00e9", "b"}


def test_what_macos_leaves_in_a_zip_is_left_out(client, tmp_path):
    extra = {"pets/Icon\r": b"", "__MACOSX/pets/cat/._0.png": b"x", "pets/cat/.DS_Store": b"x"}
    path = zipped(tmp_path / "x.zip", {f"pets/{name}": content for name, content in FILES.items()} | extra)
    made = client.datasets.upload(path)
    assert (made.images, {name for name, _ in made.left_out}) == (6, set(extra))


@pytest.mark.parametrize("source", ["/nowhere", "/dev/null"])
def test_no_folder_and_no_zip(client, source):
    with pytest.raises(InvalidArgument, match="neither a folder nor a zip file"):
        client.datasets.upload(source)


def hostile_link(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("cat/link.png")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")


def hostile_twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/1.png", png(1))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("cat/1.png", png(2))


def hostile_bomb(path: Path) -> None:
    zipped(path, {"cat/1.png": bytes(20 * 2**20)}, compression=zipfile.ZIP_DEFLATED)


def hostile_encrypted(path: Path) -> None:
    zipped(path, FILES)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + offset] |= 1
    path.write_bytes(content)


def hostile_overlap(path: Path) -> None:
    """Two members of the directory at the same bytes."""
    zipped(path, FILES)
    content = bytearray(path.read_bytes())
    first = content.find(b"PK\x01\x02")
    second = content.find(b"PK\x01\x02", first + 1)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)


def hostile_crc(path: Path) -> None:
    zipped(path, FILES)
    content = bytearray(path.read_bytes())
    at = content.find(b"IDAT")
    content[at + 10] ^= 0xFF
    path.write_bytes(content)


def hostile_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("cat/1.png"))


def hostile_size(path: Path) -> None:
    """The directory says a smaller size than there is."""
    zipped(path, FILES)
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 24 : at + 28] = (3).to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: zipped(p, {"../cat/1.png": png(1)}), "is not a relative path"),
        (lambda p: zipped(p, {"/cat/1.png": png(1)}), "is not a relative path"),
        (lambda p: zipped(p, {"C:/cat/1.png": png(1)}), "is not a relative path"),
        (lambda p: zipped(p, {"cat\\..\\1.png": png(1)}), "without backslash"),
        (lambda p: zipped(p, {"cat/\n.png": png(1)}), "characters that print"),
        (hostile_link, "is a link or a device"),
        (hostile_twice, "is there twice"),
        (hostile_bomb, "grows more than 100 times"),
        (lambda p: zipped(p, FILES | {"cat/more.zip": b"PK"}), "an archive within the archive"),
        (hostile_encrypted, "is encrypted"),
        (hostile_overlap, "overlap in the file"),
        (hostile_crc, "is damaged"),
        (hostile_size, "damaged|not of the size"),
        (hostile_tar, "is not a zip file"),
        (lambda p: p.write_bytes(b""), "is not a zip file"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(100)), "is not a zip file"),
        (lambda p: zipped(p, FILES | {"bird/1.gif": b"x"}), "bird' holds 1 images, but no PNG"),
        (lambda p: zipped(p, {}), "no image"),
    ],
)
def test_hostile_zips_are_refused_and_write_nothing(client, server, tmp_path, make, said):
    place = tmp_path / "in"
    place.mkdir()
    make(place / "x.zip")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidArgument, match=said):
        client.datasets.upload(place / "x.zip")
    assert sorted(tmp_path.rglob("*")) == before
    assert not server.datasets.received


def test_a_zip64_is_a_zip(client, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert client.datasets.upload(tmp_path / "x.zip").images == 6


def test_files_that_are_too_large_are_named(client, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "LARGEST_FILE", 50)
    with pytest.raises(InvalidArgument, match=r"cat/0\.png has \d+ bytes"):
        client.datasets.upload(folder(tmp_path, FILES))


def test_the_asynchronous_twin(server, tmp_path):
    folder(tmp_path, FILES)
    server.datasets.cut = 2

    async def use() -> Dataset:
        async with AsyncClient(server.target, worker=server.target, retry=Retry(initial=0.01)) as client:
            made = await client.datasets.upload(tmp_path)
            assert [each.id async for each in client.datasets.list()] == [made.id]
            assert (await client.datasets.check(made.id)).images == 6
            return made

    assert asyncio.run(use()).images == 6
    assert len(server.datasets.received) == 6


@pytest.fixture
def run(server, monkeypatch):
    monkeypatch.setenv("OUZEL_WORKER", server.target)
    monkeypatch.setenv("OUZEL_GRPC", server.target)

    def call(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == status, result.output
        return result.output

    return call


def test_the_commands(run, tmp_path):
    import json

    folder(tmp_path, FILES)
    made = json.loads(run("datasets", "upload", str(tmp_path), "--title", "pets", "--check", "--json"))
    assert made["classes"] == {"cat": 3, "dog": 3}
    assert made["report"]["usable"] is True
    short = made["id"][:8]
    assert "pets" in run("datasets", "list")
    assert json.loads(run("datasets", "show", short, "--json"))["id"] == made["id"]
    assert "cat 3" in run("datasets", "check", short)
    assert "no data sets" in run("datasets", "show", "ffff", status=1)
    run("datasets", "delete", short, "--yes")
    assert json.loads(run("datasets", "list", "--json")) == []


def test_finetune_by_command(run, tmp_path):
    import json

    folder(tmp_path / "pets", FILES)
    said = run("finetune", str(tmp_path / "pets"), "--base", "m", "--name", "pets", "--set", "flip=false")
    assert "pets version 1: 90.0 % of the held-out images are right (95 %: 80.0 to 95.0); it is the default" in said
    again = json.loads(run("finetune", str(tmp_path / "pets"), "--base", "m", "--name", "pets", "--json"))
    assert again["summary"]["version"] == "2"
    listed = json.loads(run("tuned", "list", "pets", "--json"))
    assert [(each["version"], each["is_default"]) for each in listed] == [("1", False), ("2", True)]
    assert "version 1 is the default" in run("tuned", "promote", "pets", "--version", "1")
    assert "no model" in run("tuned", "promote", "pets", "--version", "7", status=1)
    run("tuned", "delete", "pets@2", "--yes")
    assert "2: cat, dog" in run("tuned", "show", "pets")
    assert "usable" in run("finetune", str(tmp_path / "pets"), "--base", "m", "--name", "x", "--check")
    assert "is neither a number" in run("finetune", "x", "--base", "m", "--name", "x", "--set", "a=b", status=2)
