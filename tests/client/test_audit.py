"""`client.audit` and `ouzel audit` against the fake server."""

from __future__ import annotations

import datetime
import hashlib
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ouzel_client as oc
from ouzel_client._cli.main import main
from ouzel_protos import tensors

MASK = np.zeros((20, 30), dtype=bool)
MASK[5:10, 5:10] = True


@pytest.fixture
def one(steps, picture):
    """An audit of the picture, in both twins."""

    def audit(image=picture, claimed="cat", **arguments):
        named = arguments if {"endpoint", "predict", "model"} & set(arguments) else {"model": "m", **arguments}
        return steps(lambda client: client.audit(image, claimed=claimed, **named))

    return audit


def test_a_result(one, server, picture):
    result = one(mask=MASK, request_id="r1")
    assert (result.verdict, result.concern, result.request_id) == ("rests_on_object", False, "r1")
    assert (result.source.kind, result.source.name, result.source.version) == ("model", "m", "1.0")
    assert (result.agreement.agrees, result.agreement.claimed.label, result.agreement.rival.label) == (
        True,
        "cat",
        "dog",
    )
    assert [each.of for each in result.maps] == ["claim", "rival", "contrast"]
    assert str(result.map("contrast").saliency.target) == "cat - dog"
    assert result.map().overlay().size == (30, 20)
    with pytest.raises(KeyError, match="other"):
        result.map("other")
    assert [each.name for each in result.counterfactuals] == ["rearranged/0", "background/grass"]
    assert result.counterfactuals[0].array.shape == (8, 8, 3)
    assert result.picture.size == (8, 8)
    assert result.image_sha256 == hashlib.sha256(picture.read_bytes()).hexdigest()
    assert result.record_sha256 == hashlib.sha256(result.record).hexdigest()
    assert repr(result) == "PredictionAudit(rests_on_object, 'cat' 0.90 of model m 1.0, 2 counterfactuals)"
    (request,) = server.audits.requests
    assert np.array_equal(tensors.decode(request.mask), MASK)
    assert (request.include_pictures, request.options.ByteSize()) == (True, 0)


def test_all_arguments_arrive(one, server, tmp_path):
    time = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    reported = oc.Reported({"cat": 0.8}, "theirs", "2", np.eye(20, 30, dtype=np.float32), time)
    options = {
        "fills": ["blur"], "scenes": 3, "steps": 0, "random_orders": 5, "effect_margin": 0.5, "control_margin": 0.0,
        "seed": 7,
    }  # fmt: skip
    one(
        claimed=1, boxes=[(1, 2, 3.5, 4)], scene=True, method="guided", surrogate="s@2", dataset="d", pictures=False,
        reported=reported, organisation="The farm", contact="farm@example.org", **options,
    )  # fmt: skip
    (request,) = server.audits.requests
    assert (request.claimed.index, request.model, request.surrogate, request.dataset) == (1, "m", "s@2", "d")
    assert (request.scene, request.method, request.include_pictures) == (True, "guided", False)
    assert (request.contact.organisation, request.contact.contact) == ("The farm", "farm@example.org")
    assert [(box.left, box.top, box.right, box.bottom) for box in request.boxes] == [(1, 2, 3.5, 4)]
    sent = request.options
    assert {name: getattr(sent, name) for name in options} == options
    assert sent.HasField("steps")
    assert sent.HasField("control_margin")
    assert [(each.label, each.probability) for each in request.reported.scores] == [("cat", 0.8)]
    assert (request.reported.model, request.reported.version) == ("theirs", "2")
    assert request.reported.time.ToDatetime(tzinfo=datetime.UTC) == time
    assert np.array_equal(tensors.decode(request.reported.saliency), np.eye(20, 30))


def test_masks_and_images_of_all_kinds(one, server, picture, pixels, png, tmp_path):
    grey = Image.fromarray(np.where(MASK, 255, 0).astype(np.uint8))
    path = tmp_path / "mask.png"
    grey.save(path)
    for image in (picture, str(picture), png, pixels, Image.fromarray(pixels)):
        one(image)
    for request in server.audits.requests:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(request.image))), pixels)
    server.audits.requests.clear()
    for mask in (path, str(path), path.read_bytes(), grey):
        assert one(mask=mask).mask_source == "mask"
    for request in server.audits.requests:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(request.mask_file))) > 127, MASK)
    assert one(boxes=[(0, 0, 1, 1)]).mask_source == "boxes"
    assert one().mask_source == "nominated"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": ""}, "model: give one of model, endpoint, predict"),
        ({"model": "m", "endpoint": "e"}, "model: give one of model, endpoint, predict, not model and endpoint"),
        ({"size": (2, 2)}, "size: belongs to predict"),
        ({"mask": MASK.astype(float)}, r"mask: float64 \(20, 30\) is not bool or uint8"),
        ({"mask": "none.png"}, "mask: none.png: No such file"),
        ({"boxes": [(1, 2, 3)]}, r"boxes\[0\]: \(1, 2, 3\) is not \(left, top, right, bottom\)"),
        ({"boxes": [(1, 2, 3, float("nan"))]}, r"boxes\[0\]: .* not finite"),
        ({"reported": {"cat": 1}}, "reported: dict is not a Reported"),
        ({"reported": oc.Reported({"cat": "x"})}, "reported.scores: 'x' cannot be sent"),
        ({"steps": 1.5}, "steps: 1.5 cannot be sent"),
        ({"stepz": 1}, "stepz: is not an option of an audit"),
        ({"timeout": -1}, "timeout: -1 is not a positive number"),
        ({"claimed": 1.5}, "claimed: 1.5 is neither a label nor an index"),
        ({"claimed": "cow"}, "claimed: the model has no class 'cow'"),
        ({"image": np.zeros((3, 8, 8), np.float32)}, "image: an array of float32 is not uint8"),
        ({"mask": np.zeros((6000, 6000), np.bool_)}, "image: with its mask and maps the request has"),
        ({"predict": len, "labels": "ab"}, "labels: give the labels"),
        ({"predict": len, "labels": ["a", "b"], "size": 5}, "size: 5 is not"),
        ({"predict": len, "labels": ["a", "b"], "size": (5, "x")}, "size: 'x' cannot be sent"),
    ],
)
def test_what_cannot_be_sent_names_the_argument(one, arguments, said):
    with pytest.raises(oc.InvalidArgument, match=said):
        one(**arguments)


def test_a_function_answers(one, server):
    shown = []

    def predict(pictures):
        shown.append(pictures.shape)
        return [[0.25, 0.75]] * len(pictures)

    labels = ["a", "b"]
    result = one(claimed="b", predict=predict, labels=labels, size=(6, 7), name="mine", version="2")
    assert shown == [(2, 6, 7, 3)]
    assert (result.source.kind, str(result.source)) == ("callable", "callable mine 2")
    assert result.agreement.claimed.probability == 0.75
    for wrong, said in (
        (lambda x: [[1.0]] * len(x), r"predict: returned float64 \(2, 1\) for 2 pictures and 2 labels"),
        (lambda x: ["a"], "predict: returned <U1"),
        (lambda x: [[1], [1, 2]], "predict: returned what is no array"),
    ):
        with pytest.raises(oc.InvalidArgument, match=said):
            one(claimed="b", predict=wrong, labels=labels)
    with pytest.raises(ZeroDivisionError):
        one(claimed="b", predict=lambda x: 1 / 0, labels=labels)
    with pytest.raises(oc.InvalidArgument, match="no class 'c'"):
        one(claimed="c", predict=predict, labels=labels)


def test_a_list_gives_a_list(one, server, picture, png):
    results = one([picture, png], claimed=["cat", "dog"], mask=[MASK, None], boxes=[[], [(0, 0, 1, 1)]])
    assert [each.agreement.claimed.label for each in results] == ["cat", "dog"]
    assert [each.mask_source for each in results] == ["mask", "boxes"]
    assert [each.agreement.claimed.index for each in one([picture] * 3, claimed=1)] == [1, 1, 1]
    assert one([], claimed="cat") == []
    for arguments, said in (
        ({"claimed": ["cat"]}, "claimed: 1 for 2 images"),
        ({"mask": MASK}, "mask: with a list of images give a list"),
        ({"reported": [None]}, "reported: 1 for 2 images"),
    ):
        with pytest.raises(oc.InvalidArgument, match=said):
            one([picture, png], **arguments)


def test_endpoints(one, steps, server):
    server.audits.endpoints["theirs"] = ("x", "y")
    assert steps(lambda client: client.audit.sources()) == (oc.AuditEndpoint("theirs", "fake", 2, None),)
    assert one(claimed="x", endpoint="theirs").source.kind == "endpoint"
    with pytest.raises(oc.NotFound, match="endpoint: no endpoint 'other'"):
        one(endpoint="other")


def test_errors_and_retries(one, server):
    server.fail_next("UNAVAILABLE", times=2)
    assert one().verdict == "rests_on_object"
    server.fail_next("RESOURCE_EXHAUSTED")
    with pytest.raises(oc.Overloaded):
        one()
    server.fail_next("DEADLINE_EXCEEDED")
    with pytest.raises(oc.DeadlineExceeded):
        one(claimed="a", predict=len, labels=["a", "b"])


def test_saving(one, server, tmp_path):
    result = one(mask=MASK)
    files = result.save(tmp_path / "out")
    assert {str(file.relative_to(tmp_path / "out")) for file in files} == {
        "record.json", "picture.png", "mask.png", "maps.npz", "counterfactuals/000-rearranged-0.png",
        "counterfactuals/001-background-grass.png", "maps/claim.png", "maps/rival.png", "maps/contrast.png",
        "ledger/entry.json", "ledger/entry.salt", "ledger/entry.tlog-proof",
    }  # fmt: skip
    assert hashlib.sha256((tmp_path / "out" / "record.json").read_bytes()).hexdigest() == result.record_sha256
    with np.load(tmp_path / "out" / "maps.npz") as arrays:
        assert np.array_equal(arrays["claim"], result.map().array)
    bare = one(pictures=False)
    assert len(bare.save(tmp_path / "bare")) == 8  # without pictures, but with the maps and the proof
    with pytest.raises(oc.InvalidArgument, match="picture: the audit was asked for no pictures"):
        _ = bare.picture


def test_a_notebook_shows_it(one, server):
    server.audits.verdict = "RESTS_ON_BACKGROUND"
    result = one(claimed="<b>bird</b>")
    html = result._repr_html_()
    assert "rests_on_background" in html
    assert html.count("<figure") == 5
    assert "<b>bird" not in html
    assert "&lt;b&gt;bird" in html


@pytest.fixture
def ouzel(monkeypatch, server):
    """Runs the command."""
    monkeypatch.setenv("OUZEL_WORKER", server.target)

    def run(*words, status=0):
        result = CliRunner().invoke(main, ["audit", *map(str, words)])
        assert result.exit_code == status, result.output
        return result

    return run


def test_the_command(ouzel, server, picture, tmp_path):
    Image.fromarray(np.where(MASK, 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    server.audits.verdict = "RESTS_ON_BACKGROUND"
    words = ("--claimed", "cat", "--model", "m", "--mask", tmp_path / "mask.png", "--save", tmp_path / "out")
    lines = ouzel(picture, *words).stdout.splitlines()
    assert lines[0].split() == ["verdict", "rests_on_background", "(of", "concern)"]
    assert any(line.split()[:3] == ["background", "texture", "0.900"] for line in lines)
    assert f"wrote 12 files into {tmp_path / 'out'}" in lines
    assert (tmp_path / "out" / "record.json").is_file()
    document = json.loads(ouzel(picture, "--claimed", "index:0", "--model", "m", "--scene", "--json").stdout)
    assert (document["verdict"], document["concern"]) == ("rests_on_background", False)
    assert document["record"]["form"] == "fake"
    last = server.audits.requests[-1]
    assert (last.claimed.label, last.include_pictures, last.HasField("mask")) == ("index:0", False, False)
    boxes = ("--box", "1,2,3,4", "--box", "5,6,7,8")
    ouzel(picture, "--claimed", "cat", "--model", "m", *boxes, "--fill", "blur", "--control-margin", "0")
    last = server.audits.requests[-1]
    assert [box.bottom for box in last.boxes] == [4, 8]
    assert (list(last.options.fills), last.options.HasField("control_margin")) == (["blur"], True)


def test_refusals_of_the_command(ouzel, server, picture, monkeypatch):
    assert "Give --model or --endpoint" in ouzel(picture, "--claimed", "cat", status=2).stderr
    both = ("--model", "m", "--endpoint", "e")
    assert "one of them" in ouzel(picture, "--claimed", "cat", *both, status=2).stderr
    two = ("--model", "m", "--mask", picture, "--box", "1,2,3,4")
    assert "Give --mask or --box" in ouzel(picture, "--claimed", "cat", *two, status=2).stderr
    assert "is not LEFT,TOP" in ouzel(picture, "--claimed", "cat", "--model", "m", "--box", "1,2", status=2).stderr
    assert "Missing option '--claimed'" in ouzel(picture, "--model", "m", status=2).stderr
    assert "no class 'cow'" in ouzel(picture, "--claimed", "cow", "--model", "m", status=1).stderr
    monkeypatch.setenv("OUZEL_MODEL", "m")
    server.audits.endpoints["e"] = ("cat", "dog")
    ouzel(picture, "--claimed", "cat", "--endpoint", "e")
    assert server.audits.requests[-1].endpoint == "e"


def test_the_entry_of_the_log_comes_with_the_answer(one, tmp_path):
    result = one()
    assert (result.ledger.index, result.ledger.kind) == (0, "audit")
    assert result.ledger.facts == {"verdict": "rests_on_object"}
    result.save(tmp_path)
    assert (tmp_path / "ledger" / "entry.json").read_bytes() == result.ledger.entry
    assert bytes.fromhex((tmp_path / "ledger" / "entry.salt").read_text()) == result.ledger.salt
    assert (tmp_path / "ledger" / "entry.tlog-proof").read_text() == result.ledger.proof
