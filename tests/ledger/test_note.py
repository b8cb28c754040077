"""Signed notes, keys, checkpoints and proofs against the specifications' own examples."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ouzel.errors import DataLoss, InvalidArgument
from ouzel.ledger import Checkpoint, VerifierKey, read_checkpoint, verify_proof
from ouzel.ledger.tlog.merkle import leaf_hash
from ouzel.ledger.tlog.note import COSIGNATURE, Note, Signature, Signer
from ouzel.ledger.tlog.proof import Proof

# Of c2sp.org/signed-note.
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
# Of Go's golang.org/x/mod/sumdb/note.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
NEUMANN_NOTE = """If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""
# Of c2sp.org/tlog-cosignature.
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
    "zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0"
    "xUe+mbIUBkBIfZ+qnA==\n"
)


@pytest.fixture
def signer() -> Signer:
    return Signer("log.example/1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.mark.parametrize(("key", "note"), [(FOO, FOO_NOTE), (NEUMANN, NEUMANN_NOTE)])
def test_examples_verify(key: str, note: str) -> None:
    verifier, parsed = VerifierKey.parse(key), Note.parse(note.encode())
    assert str(verifier) == key
    assert parsed.encode().decode() == note
    assert verifier.signs(parsed) is not None
    with pytest.raises(DataLoss, match="does not fit"):
        verifier.signs(Note(parsed.text.replace("your", "our").replace("This", "That"), parsed.signatures))
    assert VerifierKey("another.example", verifier.public).signs(parsed) is None


def test_signing_gives_the_example() -> None:
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(NEUMANN_PRIVATE)[1:])
    text = NEUMANN_NOTE.partition("\n\n")[0] + "\n"
    assert Signer("PeterNeumann", private).sign(text).encode().decode() == NEUMANN_NOTE


def test_the_example_checkpoint_is_read() -> None:
    note = Note.parse(COSIGNED.encode())
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert [(each.name, each.key_id.hex(), len(each.content)) for each in note.signatures] == [
        ("example.com/behind-the-sofa", "033de0ae", 64),
        ("witness.example.com/w1", "8d66cf3f", 72),
    ]
    # The witness signed at this time, by the specification's example of the signed message.
    assert int.from_bytes(note.signatures[1].content[:8], "big") == 1679315147


def test_cosignatures_are_of_a_time_and_a_text() -> None:
    private = Ed25519PrivateKey.generate()
    key = VerifierKey("witness.example", private.public_key().public_bytes_raw(), COSIGNATURE)
    signed = private.sign(b"cosignature/v1\ntime 1679315147\na\n1\nb\n")

    def note(time: int, text: str) -> Note:
        return Note(text, (Signature(key.name, key.key_id, time.to_bytes(8, "big") + signed),))

    assert VerifierKey.parse(str(key)) == key
    assert key.signs(note(1679315147, "a\n1\nb\n")) is not None
    for time, text in ((1679315148, "a\n1\nb\n"), (1679315147, "a\n2\nb\n")):
        with pytest.raises(DataLoss):
            key.signs(note(time, text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        FOO[:-4],
        FOO.replace("530d903a", "530d903b"),
        FOO.replace("+Aeky", "+Auky"),
        "a b" + FOO[11:],
        NEUMANN + "AA",
    ],
)
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="key"):
        VerifierKey.parse(text)


@given(st.data())
def test_every_edit_of_a_signed_checkpoint_is_found(data: st.DataObject) -> None:
    signer = Signer("log.example/1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    content = signer.sign(Checkpoint(signer.name, 1, leaf_hash(b"a")).text()).encode()
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != content[at]))
    for edited in (content[:at] + bytes([byte]) + content[at + 1 :], content[:at], content[:at] + content[at + 1 :]):
        with pytest.raises(DataLoss):
            read_checkpoint(edited, signer.verifier)


@pytest.mark.parametrize(
    "text",
    [
        "log.example/1\n01\n{r}\n",
        "log.example/1\n-1\n{r}\n",
        "log.example/1\n1\n{r}\nmore\n",
        "log.example/1\n1\nAAAA\n",
        "other\n1\n{r}\n",
        "log.example/1\n1\n",
        "log.example/1\n0\n{r}\n",
        "log.example/1\n 1\n{r}\n",
    ],
)
def test_what_is_signed_must_be_a_checkpoint(signer: Signer, text: str) -> None:
    root = base64.b64encode(leaf_hash(b"a")).decode()
    with pytest.raises(DataLoss):
        read_checkpoint(signer.sign(text.format(r=root)).encode(), signer.verifier)


def test_proofs_are_of_one_entry_and_one_log(signer: Signer) -> None:
    other = leaf_hash(b"b")
    root = Checkpoint(signer.name, 2, leaf_hash(b"a"))
    note = signer.sign(root.text()).encode()
    with pytest.raises(DataLoss, match="does not lead"):
        verify_proof(Proof(0, [other], note).text(), b"a", signer.verifier)
    good = Proof(0, [], signer.sign(Checkpoint(signer.name, 1, leaf_hash(b"a")).text()).encode()).text()
    verify_proof(good, b"a", signer.verifier)
    verify_proof(good.replace("@v1\n", "@v1\nextra AAAA\n"), b"a", signer.verifier)
    for bad in (good.replace("index 0", "index 00"), good.replace("@v1", "@v2"), good.replace("\n\n", "\n", 1), ""):
        with pytest.raises(DataLoss):
            verify_proof(bad, b"a", signer.verifier)
    with pytest.raises(DataLoss):
        verify_proof(good, b"b", signer.verifier)
    with pytest.raises(DataLoss):
        verify_proof(good, b"a", VerifierKey.parse(FOO))


def test_the_ledger_is_light() -> None:
    """Handlers and commands open it: neither torch nor numpy nor a database driver comes with the import."""
    heavy = ("torch", "numpy", "grpc", "psycopg", "apsw", "obstore", "rfc8785")
    code = f"import sys, ouzel.ledger; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
