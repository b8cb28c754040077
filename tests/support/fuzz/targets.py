"""What is fuzzed: functions of bytes, with seeds. Errors of our own are right answers, all others are findings."""

from __future__ import annotations

import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LABELS = ("grass", "sheep", "goat", "rock", "snow", "wool")


@dataclass(frozen=True)
class Target:
    """One function.

    Attributes:
        run: Given the bytes.
        seeds: To begin with.
        refusals: Exceptions that are right answers.
        longest: Bytes.
    """

    run: Callable[[bytes], object]
    seeds: list[bytes]
    refusals: tuple[type[Exception], ...]
    longest: int = 8192


def image() -> Target:
    """The decoder of images, with and without a size that is wanted."""
    from PIL import Image

    from ouzel import images
    from ouzel.errors import OuzelError

    def run(data: bytes) -> None:
        for smallest in (None, 16):
            size = images.size_of_plain_jpeg(data, smallest=smallest)  # raises nothing
            found = images.decode(data, smallest=smallest)
            assert size in (None, found.size)
            assert found.mode in ("L", "RGB")
            assert min(images.original_size(found)) >= 8

    seeds = []
    for mode in ("L", "LA", "RGB", "RGBA", "P", "1", "I;16", "CMYK"):
        for form in ("PNG", "JPEG", "WEBP"):
            out = io.BytesIO()
            try:
                Image.new(mode, (12, 9)).save(out, form)
            except (OSError, ValueError):
                continue
            seeds.append(out.getvalue())
    out = io.BytesIO()
    Image.new("RGB", (40, 40)).save(out, "JPEG", progressive=True)
    return Target(run, [*seeds, out.getvalue()], (OuzelError,), 65536)


def archive() -> Target:
    """The reader of data sets in zip files."""
    from ouzel_client._codec import zips
    from ouzel_client.errors import OuzelError

    place = Path(tempfile.mkdtemp(prefix="ouzel-fuzz-")) / "set.zip"

    def run(data: bytes) -> None:
        place.write_bytes(data)
        for name, read in zips.members(place).items():
            assert not name.startswith("/")
            assert ".." not in name.split("/")
            read()

    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as made:
            for name in ("a/1.png", "b/2.png", "b/é.png", "a/"):
                made.writestr(name, name * 20)
        seeds.append(out.getvalue())
    return Target(run, seeds, (OuzelError,))


def _model() -> tuple[object, ...]:
    import torch

    from ouzel import models
    from ouzel.models import archive as archives
    from ouzel.models.card import Card
    from ouzel.models.preprocessing import Preprocessing

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="ouzel-fuzz-"))
    state = models.build("timm:test_resnet", num_classes=len(LABELS)).state_dict()
    card = Card("toy", "1", "timm:test_resnet", LABELS, Preprocessing(input_size=(32, 32), resize=32))
    archives.write(card, state, folder / "toy.mar")
    return folder, models.load(folder / "toy.mar")


def options() -> Target:
    """ExplainOptions and JSON, up to what the engine is told."""
    from ouzel.errors import OuzelError
    from ouzel.explain.limits import Limits
    from ouzel.explain.options import parse
    from ouzel.explain.plan import make_plan
    from ouzel.explain.served import Served
    from ouzel.saliency import Explainer
    from ouzel_protos.v1 import explain_pb2 as pb

    _, model = _model()
    served, limits = Served(model, Explainer(model), pb.ModelInfo()), Limits()
    view = pb.View(image_width=40, image_height=40, right=40, bottom=40)

    def run(data: bytes) -> None:
        make_plan(parse(data), served, view, limits)

    documents = [
        {"saliency": ["guided", {"method": "grad_cam", "target": "goat", "layer": "layer4"}], "top_k": 2},
        {"saliency": [{"method": "smoothgrad", "samples": 4, "seed": 1, "target": {"contrast": [1, "goat"]}}]},
        {"saliency": [{"method": "occlusion", "window": 8, "stride": 4, "reduction": "none", "size": "original"}]},
        {"saliency": [{"method": "integrated_gradients", "steps": 4, "baseline": "white", "target": {"top": 2}}]},
        {"when": {"score_below": 0.5, "entropy_above": 0.1, "labels": ["goat"]}, "timeout": 3.5, "request_id": "r"},
        {"saliency": [{"method": "rise", "masks": 4, "faithfulness": 8, "dtype": "float16"}], "estimate_only": True},
    ]
    texts = [json.dumps(each).encode() for each in documents]
    return Target(run, [*texts, *(parse(each).SerializeToString() for each in texts)], (OuzelError,))


def jobs() -> Target:
    """Requests for jobs, up to what is stored."""
    from ouzel.bounded_messages import parsed
    from ouzel.errors import OuzelError
    from ouzel.worker.api.requests import new_job
    from ouzel.worker.catalog.catalog import Catalogue
    from ouzel_protos.v1 import explain_pb2
    from ouzel_protos.v1 import job_pb2 as pb

    folder, _ = _model()
    assert isinstance(folder, Path)
    catalogue = Catalogue(folder, folder / "cache")

    def run(data: bytes) -> None:
        new_job(parsed(pb.CreateJobRequest, data), catalogue)

    conv = next(name for name, shape in catalogue.model("toy").layers.items() if len(shape) == 3)
    channels = catalogue.model("toy").layers[conv][0]
    nodes = [
        pb.Node(logit=explain_pb2.ClassRef(label="goat")),
        pb.Node(logit=explain_pb2.ClassRef(index=2)),
        pb.Node(unit=pb.Unit(layer=conv, channel=1, x=0, y=0)),
        pb.Node(channel=pb.Channel(layer=conv, channel=1)),
        pb.Node(direction=pb.Direction(layer=conv, weights=[1.0] * channels)),
    ]
    specs = [pb.JobSpec(maximize=pb.MaximizeSpec(model="toy", targets=[node], recipe="pixel")) for node in nodes]
    specs += [pb.JobSpec(search_activations=pb.SearchActivationsSpec(model="toy", targets=[nodes[-1]], top_k=3))]
    specs += [pb.JobSpec(finetune=pb.FinetuneSpec(base="toy", name="new", dataset="0" * 64, recipe="lp_ft", seed=1))]
    specs += [pb.JobSpec(audit=pb.AuditSpec(model="toy", dataset="0" * 64))]
    requests = [pb.CreateJobRequest(spec=spec, request_id="r", priority=1, labels={"a": "b"}) for spec in specs]
    return Target(run, [each.SerializeToString() for each in requests], (OuzelError,))


def _described() -> object:
    from ouzel.gateway.engine import Description

    return Description("toy", "1", ("1",), LABELS, (3, 8, 8), "p")


def infer_grpc() -> Target:
    """ModelInferRequest, up to rows for the engine."""
    from ouzel.bounded_messages import parsed
    from ouzel.errors import OuzelError
    from ouzel.gateway.oip import grpc_messages
    from ouzel.gateway.oip.rows import ask
    from ouzel_protos.oip import inference_pb2 as pb
    from support import oip_bytes as wire

    model = _described()

    def run(data: bytes) -> None:
        asked = ask(grpc_messages.infer_request(parsed(pb.ModelInferRequest, data)), model, 64)
        assert 1 <= len(asked.rows) <= 64

    parameters = [
        wire.parameter("method", "smoothgrad"),
        wire.parameter("samples", 4),
        wire.parameter("target", "goat"),
    ]
    image = wire.tensor("image", "BYTES", (2,))
    seeds = [
        wire.infer(
            "toy", [image], [wire.elements(b"one", b"two")], parameters=parameters, outputs=[wire.chunk(1, "saliency")]
        ),
        wire.infer("toy", [wire.tensor("input", "FP32", (1, 3, 8, 8))], [bytes(768)], identity="i", version="1"),
        wire.infer("toy", [wire.tensor("input", "BF16", (2, 3, 8, 8))], [bytes(768)]),
        wire.infer("toy", [wire.tensor("input", "FP16", (1, 3, 8, 8))], [bytes(384)]),
    ]
    return Target(run, seeds, (OuzelError,))


def infer_rest() -> Target:
    """Bodies of REST with the binary extension: the first two bytes are the length of the JSON."""
    from ouzel.errors import OuzelError
    from ouzel.gateway.oip import json_bodies
    from ouzel.gateway.oip.rows import ask

    model = _described()

    def run(data: bytes) -> None:
        head = int.from_bytes(data[:2], "big")
        length = None if head == 0xFFFF else str(head)
        asked = ask(json_bodies.infer_request("toy", "", data[2:], length, 10**6), model, 64)
        assert 1 <= len(asked.rows) <= 64

    image = {"name": "image", "datatype": "BYTES", "shape": [1]}
    seeds, sized = [], {"parameters": {"binary_data_size": 384}}
    for inputs, rest in (
        ([image | {"parameters": {"binary_data_size": 7}}], b"\3\0\0\0abc"),
        ([{"name": "input", "datatype": "FP32", "shape": [1, 3, 8, 8], "data": [0.5] * 192}], b""),
        ([{"name": "input", "datatype": "FP16", "shape": [1, 3, 8, 8]} | sized], bytes(384)),
        ([image | {"data": ["aGFsbG8="]}], b""),
    ):
        outputs = [{"name": "scores", "parameters": {"binary_data": True, "classification": 2}}, {"name": "saliency"}]
        document = {"id": "i", "inputs": inputs, "outputs": outputs, "parameters": {"method": "guided", "target": 1}}
        text = json.dumps(document).encode()
        seeds.append((len(text) if rest else 0xFFFF).to_bytes(2, "big") + text + rest)
    return Target(run, seeds, (OuzelError,))


def forms() -> Target:
    """Forms with files, and JSON documents: the first line is the content type."""
    from ouzel.errors import OuzelError
    from ouzel.explain import read_row
    from ouzel.explain.options import parse
    from ouzel.gateway.rest import multipart

    def run(data: bytes) -> None:
        first, _, body = data.partition(b"\n")
        kind = first.decode("latin-1")
        form = kind.lower().startswith("multipart/form-data")
        read = read_row(multipart.parts(kind, body) if form else {"body": body}, None)
        parse(read.options)

    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    form = part % (b"image", b"\x89PNG\r\n") + part % (b"options", b'{"top_k": 1}') + b"--b--\r\n"
    seeds = [b"multipart/form-data; boundary=b\n" + form, b'multipart/form-data; boundary="b"\nx\r\n' + form]
    documents = (
        {"image": "aGFsbG8="},
        {"tensor": {"dtype": "FLOAT32", "shape": [1], "data": "AAAAAA=="}},
        {"options": {}},
    )
    return Target(
        run, [*seeds, *(b"application/json\n" + json.dumps(each).encode() for each in documents)], (OuzelError,)
    )


def credentials() -> Target:
    """The header authorization, before keys and an issuer whose keys are there."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ed25519

    from ouzel.errors import Unauthenticated, Unavailable
    from ouzel.gateway.access.configured import ConfiguredAccess
    from ouzel.gateway.access.key_schema import open_keys
    from ouzel.gateway.access.key_text import new_key
    from ouzel.gateway.access.known_keys import KnownKeys
    from ouzel.gateway.access.tenants_file import parse
    from ouzel.gateway.access.tokens import Tokens
    from ouzel.gateway.access.watched import Watched

    folder = Path(tempfile.mkdtemp(prefix="ouzel-fuzz-"))
    file = folder / "tenants.toml"
    file.write_text(
        '[tenants.acme]\n[issuers.corp]\nurl = "https://login.test"\naudience = "ouzel"\nalgorithms = ["EdDSA"]\n'
        'tenant_claim = "org"\ntenants = ["acme"]\n'
    )
    private = ed25519.Ed25519PrivateKey.generate()
    public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(private.public_key())) | {"kid": "k", "alg": "EdDSA"}

    def fetch(url: str, *_: object, **__: object) -> object:
        return (
            {"keys": [public]}
            if "jwks" in url
            else {"issuer": "https://login.test", "jwks_uri": "https://login.test/jwks"}
        )

    claims = {"iss": "https://login.test", "aud": "ouzel", "exp": 2**33, "iat": 1, "sub": "ann", "org": "acme"}
    claims["roles"] = ["explain"]
    tokens = Tokens(fetch)
    keys = KnownKeys(open_keys(folder / "keys.db"))
    keys.refresh()
    access = ConfiguredAccess(Watched([file], lambda content: parse(content[0], file), "tenants"), keys, tokens)
    access.refresh()
    token = jwt.encode(claims, private, "EdDSA", headers={"kid": "k"})
    deadline = time.monotonic() + 30
    while True:  # the keys are fetched aside
        try:
            access.identify(f"Bearer {token}", None)
            break
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def run(data: bytes) -> None:
        access.identify(data.decode("latin-1"), None)

    weak = jwt.encode(claims, "k" * 32, "HS256", headers={"kid": "k"})
    seeds = [f"Bearer {each}".encode() for each in (token, weak, new_key(), "a.b.c", "ouzel_" + "0" * 48)]
    return Target(run, [*seeds, b"Basic x"], (Unauthenticated, Unavailable), 4096)


def events() -> Target:
    """CloudEvents over HTTP: headers, an empty line, the body."""
    from ouzel.errors import OuzelError
    from ouzel.sink import cloudevents

    def run(data: bytes) -> None:
        head, _, body = data.partition(b"\n\n")
        headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in head.split(b"\n"))]
        event = cloudevents.parse(headers, body)
        assert 1 <= len(event.id) <= cloudevents.LONGEST_ID

    binary = b"ce-specversion: 1.0\nce-id: i\nce-source: s\nce-type: t\ncontent-type: application/json\n\n{}"
    document = {"specversion": "1.0", "id": "i", "source": "s", "type": "t", "data": {"a": 1}}
    structured = b"content-type: application/cloudevents+json\n\n"
    encoded = json.dumps(document | {"data_base64": "aGFsbG8="} | {"data": None}).encode()
    return Target(run, [binary, structured + json.dumps(document).encode(), structured + encoded], (OuzelError,))


def compressed() -> Target:
    """Compressed bodies of HTTP."""
    import gzip
    import zlib

    from ouzel.errors import OuzelError
    from ouzel.gateway.rest import bodies

    def run(data: bytes) -> None:
        assert len(bodies._decompressed(data, "gzip", 2**20)) <= 2**20

    return Target(
        run, [gzip.compress(b"hallo" * 9), zlib.compress(b"hallo" * 9), gzip.compress(bytes(2**21))], (OuzelError,)
    )


TARGETS: dict[str, Callable[[], Target]] = {
    each.__name__: each
    for each in (image, archive, options, jobs, infer_grpc, infer_rest, forms, credentials, events, compressed)
}
