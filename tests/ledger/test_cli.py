"""The command `ouzel ledger`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ouzel.cli.ledger import ledger as command
from ouzel.ledger import Ledger
from support import ledgers
from support.ledgers import IMAGE, Place


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """In its default place below a state folder; closed."""
    monkeypatch.setenv("OUZEL_STATE", str(tmp_path))
    folder = tmp_path / "ledger"
    opened = Place(f"sqlite://{folder / 'ledger.db'}", folder).open()
    for n in range(300):
        opened.append("gate" if n % 100 == 7 else "audit", {"n": n}, images=[IMAGE] if n == 3 else [])
    opened.append("refusal", {"n": 300}, owner="alice")
    opened.close()
    return opened


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == status, result.output
    return result


def test_verify_names_the_first_bad_entry(log: Ledger, tmp_path: Path) -> None:
    assert "301 entries are as they were published. So is the database." in run("verify").output
    saved = tmp_path / "saved"
    saved.write_text(run("checkpoint").output)
    assert json.loads(run("verify", "--since", str(saved), "--json").output)["ok"] is True
    path = tmp_path / "ledger/tiles/tile/entries/000"
    path.write_bytes(path.read_bytes().replace(b'"n":55}', b'"n":56}'))
    result = run("verify", status=1)
    assert result.stderr.startswith("WRONG entry 55 (tile/entries/000): the entry does not have the hash")
    values = json.loads(run("verify", "--json", status=1).stdout)
    assert [each["entry"] for each in values["problems"]] == [55]


def test_verify_of_files_alone(log: Ledger, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "ledger/tiles", copy)
    elsewhere = ("--state", str(tmp_path / "none"), "--tiles", str(copy))
    assert "whoever forged them" in run("verify", *elsewhere).output
    result = run("verify", *elsewhere, "--key", str(log.key))
    assert result.output == f"{log.key.name}: 301 entries are as they were published.\n"
    (copy / "vkey").unlink()
    assert "give --key" in run("verify", *elsewhere, status=1).output
    assert "not a verifier key" in run("verify", "--key", "x", status=1).output
    (copy / "checkpoint").unlink()
    assert "checkpoint: is missing" in run("verify", *elsewhere, "--key", str(log.key), status=1).output


def test_prove_show_and_export(log: Ledger, tmp_path: Path) -> None:
    entry = run("show", "7", "--raw").stdout_bytes
    ledgers.proof(run("prove", "7").output, entry, run("key").output)
    run("prove", "7", "-o", str(tmp_path / "7.tlog-proof"))
    ledgers.proof((tmp_path / "7.tlog-proof").read_text(), entry, str(log.key))
    shown = json.loads(run("show", "3", "--json", "--salt").output)
    assert (shown["index"], shown["kind"], shown["facts"], len(shown["salt"])) == (3, "audit", {"n": 3}, 32)
    assert "salt" not in json.loads(run("show", "3", "--json").output)
    assert "gate" in run("show", "7").output
    lines = [json.loads(line) for line in run("export").output.splitlines()]
    assert [each["facts"]["n"] for each in lines] == list(range(301))
    chosen = run("export", "--kind", "gate", "--from", "100", "--to", "207").output
    lines = [json.loads(line) for line in chosen.splitlines()]
    assert [each["index"] for each in lines] == [107, 207]
    (line,) = run("export", "--owner", "alice").output.splitlines()
    assert json.loads(line)["facts"] == {"n": 300}
    assert run("export", "--owner", "bob").output == ""
    assert "is not one of audit" in run("export", "--kind", "gates", status=1).output
    for verb in ("show", "prove", "forget"):
        more = ("--yes",) if verb == "forget" else ()
        assert "entry: 301 is not in the log, which has 301 entries" in run(verb, "301", *more, status=1).output


def test_a_proof_is_checked_without_a_log(log: Ledger, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("proof", "entry", "salt", "image")}
    files["proof"].write_text(run("prove", "3").output)
    files["entry"].write_bytes(run("show", "3", "--raw").stdout_bytes)
    files["salt"].write_text(json.loads(run("show", "3", "--json", "--salt").output)["salt"])
    files["image"].write_bytes(b"a photograph")
    words = ("check", str(files["proof"]), str(files["entry"]), "--key", str(log.key))
    about = ("--image", str(files["image"]), "--salt", str(files["salt"]))
    shutil.rmtree(tmp_path / "ledger")
    assert run(*words, *about).output.splitlines() == [
        f"Entry 3 of {log.key.name} is proven by a checkpoint of 301 entries.",
        f"It is about {files['image']}.",
    ]
    files["image"].write_bytes(b"another")
    assert "is not one that the entry is about" in run(*words, *about, status=1).output
    files["entry"].write_bytes(files["entry"].read_bytes().replace(b'"n":3', b'"n":4'))
    assert "does not lead from this entry" in run(*words, status=1).output


def test_forget_and_replay(log: Ledger, tmp_path: Path) -> None:
    image = tmp_path / "cat.png"
    image.write_bytes(b"a photograph")
    assert "does not hold the request" in run("replay", "3", "--image", str(image), status=1).output
    assert "about no image" in run("replay", "4", "--image", str(image), status=1).output
    run("forget", "3", "--yes")
    assert "was deleted" in run("replay", "3", "--image", str(image), status=1).output
    image.write_bytes(b"another")
    assert json.loads(run("show", "301", "--json").output)["kind"] == "forget"
    run("verify")


def test_prune(log: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("prune", "--yes").output == "nothing is old enough\n"
    assert run("prune", "--older-than", "0", "--yes", status=2)
    assert "301 entries are" in run("verify").output


def test_there_is_no_log(tmp_path: Path) -> None:
    result = run("key", "--state", str(tmp_path), status=1)
    assert f"there is no ledger in {tmp_path}/ledger/ledger.db" in " ".join(result.output.split())
    assert not (tmp_path / "ledger").exists()
