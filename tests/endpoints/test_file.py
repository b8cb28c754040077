"""The operator's file, and the short form."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ouzel.endpoints.description import file
from ouzel.endpoints.description.config import Endpoint, Limits
from ouzel.endpoints.description.json_path import JsonPath
from ouzel.endpoints.description.protocols import HttpJson, Oip, TorchServe
from ouzel.endpoints.description.urls import with_path
from ouzel.errors import AlreadyExists, InvalidArgument, NotFound

OIP = """
[birds]
url = "https://host:8443/v2/models/birds/versions/2"
labels = ["ant", "bee"]
size = [64, 48]
[birds.input]
layout = "NCHW"
datatype = "FP32"
scale = "1/255"
mean = 0.5
std = [0.2, 0.3, 0.4]
[birds.output]
scores = "logits"
"""
JSON = """
[birds]
kind = "http-json"
url = "https://host/classify?version=7"
labels = ["ant", "bee"]
size = "image"
[birds.input]
image = "json"
path = "image.data"
[birds.output]
form = "mapping"
scores = "probabilities"
"""
SERVE = '[birds]\nurl = "http://host:8080/predictions/birds/2"\nlabels = ["ant", "bee"]\nsize = [256, 256]\n'


def one(text: str, folder: Path = Path()) -> Endpoint:
    (endpoint,) = file.parse(text, folder).values()
    return endpoint


def test_what_is_read() -> None:
    read = one(OIP)
    assert isinstance(read.protocol, Oip)
    assert (read.name, read.url, read.size, read.resize) == ("birds", "https://host:8443", (64, 48), None)
    assert (read.protocol.model, read.protocol.version) == ("birds", "2")
    assert read.protocol.input.scale == 1 / 255
    assert (read.protocol.input.mean, read.protocol.input.std) == ((0.5,), (0.2, 0.3, 0.4))
    read = one(SERVE)
    assert read.protocol == TorchServe("birds", "2")
    read = one(JSON)
    assert isinstance(read.protocol, HttpJson)
    assert (read.url, read.size) == ("https://host/classify?version=7", None)
    assert read.protocol.place.put({"image": {"type": "png"}}, "x") == {"image": {"type": "png", "data": "x"}}


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (OIP, 'labels = ["ant", "bee"]', "", "birds.labels: missing"),
        (OIP, '["ant", "bee"]', '["ant"]', "birds.labels: 1 labels is not within 2..100000"),
        (OIP, '["ant", "bee"]', "[1, 2]", "birds.labels: is not a list of strings"),
        (OIP, '["ant", "bee"]', r'["ant", "b\n"]', r"birds.labels\[1\]: 'b\\n' is not a line"),
        (OIP, "size = [64, 48]", "", r"birds.size: missing"),
        (OIP, "size = [64, 48]", "size = [64]", r"birds.size: is neither \[height, width\]"),
        (OIP, "size = [64, 48]", "size = [64, 0]", "birds.size: 0 pixels is not within 1..4096"),
        (OIP, "size = [64, 48]", 'size = "image"', "birds.size: missing"),
        (OIP, "[birds.input]", "resize = 63\n[birds.input]", "birds.resize: 63 pixels is not within 64..8192"),
        (OIP, 'scale = "1/255"', "", "birds.input.scale: missing; the protocol does not say how"),
        (OIP, 'scale = "1/255"', 'scale = "1/0"', "birds.input.scale: is neither a number"),
        (OIP, 'scale = "1/255"', "scale = -1", "birds.input.scale: -1 is not a finite number above 0"),
        (OIP, 'scale = "1/255"', "scale = inf", "birds.input.scale: inf is not a finite number above 0"),
        (OIP, "mean = 0.5", "", "birds.input.mean: missing"),
        (OIP, "mean = 0.5", "mean = [0.5, 0.5]", r"birds.input.mean: \[0.5, 0.5\] is not 1 or 3"),
        (OIP, "mean = 0.5", "mean = nan", "birds.input.mean: .* is not 1 or 3 finite"),
        (OIP, "std = [0.2, 0.3, 0.4]", "std = 0", "birds.input.std: 0 is not above 0"),
        (OIP, '"FP32"', '"UINT8"', "birds.input.scale: is for FP32"),
        (OIP, '"FP32"', '"INT8"', "birds.input.datatype: 'INT8' is not one of FP32, UINT8"),
        (OIP, 'layout = "NCHW"', "", "birds.input.layout: missing; state NCHW or NHWC"),
        (OIP, 'scores = "logits"', "", 'birds.output.scores: missing; state whether .* "logits" or "probabilities"'),
        (OIP, "[birds.output]", "[birds.output]\nlayout = 1", "birds.output.layout: unknown; allowed are scores, name"),
        (OIP, "size =", "timout_s = 3\nsize =", "birds.timout_s: unknown; .*; did you mean 'timeout_s'"),
        (OIP, "size =", "timeout_s = 0\nsize =", "birds.timeout_s: 0 s is not within 0.1..600 s"),
        (OIP, "size =", "retries = 11\nsize =", "birds.retries: 11 is not within 0..10"),
        (OIP, "size =", "retries = true\nsize =", "birds.retries: is not an integer"),
        (OIP, "size =", "requests_per_second = nan\nsize =", "birds.requests_per_second: nan is not within"),
        (OIP, "size =", "concurrency = 0\nsize =", "birds.concurrency: 0 is not within 1..32"),
        (OIP, "size =", "max_response_bytes = 1\nsize =", "birds.max_response_bytes: 1 is not within 1024..67108864"),
        (OIP, "size =", "batch = 0\nsize =", "birds.batch: 0 is not within 1..64"),
        (
            OIP,
            "size =",
            'kind = "tfserving"\nsize =',
            "birds.kind: 'tfserving' is not one of oip, torchserve, http-json",
        ),
        (OIP, "size =", 'model = "cats"\nsize =', "birds.model: 'cats' is not the one of the URL, 'birds'"),
        (OIP, "size =", 'ca_file = "no.pem"\nsize =', "birds.ca_file: no.pem is not a file"),
        (OIP, "https://host:8443/", "ftp://host/", "birds.url: is not a URL of http"),
        (OIP, "https://host:8443/", "https://user:s3cr3t@host/", "birds.url: holds a user or a password"),
        (OIP, "https://host:8443/", "https://host:99999/", "birds.url: is not a URL"),
        (OIP, "/v2/models/birds/versions/2", "/classify#s3cr3t", "birds.url: holds a fragment"),
        (OIP, "/v2/models/birds/versions/2", "/classify", "birds.kind: '' is not one of oip"),
        (OIP, "/v2/models/birds/versions/2", "/v2/models/..%2f", "birds.model: '..%2f' is not 1 to 128 letters"),
        (OIP, "https://host:8443/v2/models/birds/versions/2", "grpc://host", "birds.url: of gRPC is grpc://HOST:PORT"),
        (OIP, "[birds", "[Birds of prey", "is not TOML"),
        (SERVE, '["ant", "bee"]', '["ant", "ant"]', "birds.labels: 'ant' comes twice"),
        (SERVE, "http:", "grpc:", "birds.url: of gRPC is"),
        (SERVE, "size = ", 'handler = "mine"\nsize = ', "birds.handler: 'mine' is not one of image_classifier, ouzel"),
        (JSON, 'size = "image"', "", 'birds.size: missing; state .* or "image"'),
        (JSON, 'path = "image.data"', "", "birds.input.path: missing"),
        (JSON, 'path = "image.data"', 'path = "image[3]"', r"birds.input.path: image\[3\] does not fit"),
        (JSON, 'path = "image.data"', 'path = "a..b"', "birds.input.path: 'a..b' is not a path"),
        (
            JSON,
            "[birds.output]",
            '[birds.input.body]\nimage = "x"\n[birds.output]',
            "birds.input.path: .* does not fit",
        ),
        (JSON, 'image = "json"', 'image = "multipart"', "birds.input.field: missing"),
        (JSON, 'image = "json"', 'image = "body"\nbody = { x = 1 }', "birds.input.body: the image is the whole body"),
        (JSON, 'form = "mapping"', "", "birds.output.form: missing; state array, mapping or list"),
        (JSON, 'form = "mapping"', 'form = "array"\npartial = true', "birds.output.partial"),
        (JSON, '"probabilities"', '"logits"\npartial = true', "birds.output.partial"),
        (JSON, "size =", "headers = { Host = 'x' }\nsize =", "birds.headers: 'host' cannot be set"),
        (JSON, "size =", "headers = { 'A b' = 'x' }\nsize =", "birds.headers: 'a b' cannot be set"),
        (JSON, "size =", "headers = { A = 's3cr3t', a = 'x' }\nsize =", "birds.headers: a name comes twice"),
        (JSON, "size =", 'headers = { A = "s3cr3t\\r\\nB: c" }\nsize =', "headers.A: the value holds more than"),
        (JSON, "size =", "headers = { A = 3 }\nsize =", "birds.headers.A: is not a string"),
        (JSON, "size =", 'headers = { A = { env = "NO_SUCH" } }\nsize =', "variable NO_SUCH is not set or empty"),
        (JSON, "size =", 'bearer_token = { file = "no" }\nsize =', "birds.bearer_token: the file no cannot be read"),
        (JSON, "size =", 'bearer_token = { env = "A", file = "no" }\nsize =', "birds.bearer_token: has one of env and"),
        (JSON, "size =", 'proxy = { env = "NO_SUCH" }\nsize =', "birds.proxy: the environment variable NO_SUCH"),
    ],
)
def test_what_is_refused(text, old, new, message) -> None:
    assert old in text
    with pytest.raises(InvalidArgument, match=message) as caught:
        one(text.replace(old, new, 1))
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("text", ["birds = 3", "[birds]", '["Birds/.."]\nurl = "http://host/predictions/x"', "[a.b.c]"])
def test_files_that_are_none(text) -> None:
    with pytest.raises(InvalidArgument):
        file.parse(text, Path())


def test_mistakes_of_toml_do_not_show_the_line() -> None:
    with pytest.raises(InvalidArgument, match=r"is not TOML \(at line 2, column \d+\)") as caught:
        file.parse('[birds]\nbearer_token = "s3cr3t" s3cr3t\n', Path())
    assert "s3cr3t" not in str(caught.value)


def test_labels_and_secrets_from_files(tmp_path, monkeypatch) -> None:
    (tmp_path / "labels.txt").write_text("ant\r\nbe\u0065\u0301\n\n", encoding="utf-8")
    (tmp_path / "labels.json").write_text(json.dumps(["ant", "crane", "crane"]))
    (tmp_path / "token").write_text("s3cr3t\n")
    monkeypatch.setenv("BIRDS_KEY", "k3y")
    headers = 'headers = { X-Key = { env = "BIRDS_KEY", prefix = "v1:" } }'
    more = f'labels = "labels.txt"\nbearer_token = {{ file = "token" }}\n{headers}'
    read = one(SERVE.replace('labels = ["ant", "bee"]', more), tmp_path)
    assert read.labels == ("ant", "be\u00e9")
    assert {name: secret.reveal() for name, secret in read.headers} == {
        "X-Key": "v1:k3y",
        "Authorization": "Bearer s3cr3t",
    }
    assert "s3cr3t" not in repr(read)
    assert "k3y" not in repr(read)
    assert one(OIP.replace('["ant", "bee"]', '"labels.json"'), tmp_path).labels == ("ant", "crane", "crane")
    with pytest.raises(InvalidArgument, match=r"birds\.labels: .*none.txt is not a file"):
        one(OIP.replace('["ant", "bee"]', '"none.txt"'), tmp_path)


def test_name_and_url() -> None:
    read = file.parse_flag("birds=https://host/predictions/birds/2?x=1")
    assert read.protocol == TorchServe("birds", "2", handler="ouzel")
    assert (read.url, read.labels, read.size) == ("https://host?x=1", (), None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("birds=http://host/v2/models/birds?key=s3cr3t", "does not say a model's labels.*--audit-endpoints"),
        ("birds=grpc://host:1", "does not say a model's labels.*--audit-endpoints"),
        ("birds=http://host/classify?key=s3cr3t", "kind is not known; describe this endpoint in the file"),
        ("birds=file:///etc/passwd", "is not a URL of http"),
        ("birds", "is not NAME=URL"),
        ("=http://host/predictions/birds", "is not NAME=URL"),
        ("Birds=http://host/predictions/birds", "name: 'Birds' is not"),
    ],
)
def test_name_and_url_that_do_not_suffice(value, message) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        file.parse_flag(value)
    assert "s3cr3t" not in str(caught.value)


def test_all_of_an_operator(tmp_path) -> None:
    path = tmp_path / "endpoints.toml"
    path.write_text(OIP)
    assert list(file.registered(path, ["ants=http://host/predictions/ants"])) == ["birds", "ants"]
    with pytest.raises(AlreadyExists, match="'birds' is registered twice"):
        file.registered(path, ["birds=http://host/predictions/birds"])
    with pytest.raises(NotFound, match=r"audit-endpoints: .*none.toml is not a file"):
        file.registered(tmp_path / "none.toml")
    assert file.registered() == {}


def test_paths_in_documents() -> None:
    document = {"a": [{"b.c": 1}, {"d": [2, 3]}]}
    assert JsonPath.parse("a[0]['b.c']", "x").get(document) == 1
    assert JsonPath.parse("$.a[1].d[1]", "x").get(document) == 3
    assert JsonPath.parse("", "x").get(document) == document
    for path in ("a[2]", "a.d", "a[0].d", "b", "a[0]['b.c'].e"):
        with pytest.raises(LookupError):
            JsonPath.parse(path, "x").get(document)
        assert str(JsonPath.parse(path, "x")) == path
    assert JsonPath.parse("a[1].e.f", "x").put(document, 5) == {"a": [{"b.c": 1}, {"d": [2, 3], "e": {"f": 5}}]}
    assert JsonPath.parse("g[0].h", "x").put({}, 5) == {"g": [{"h": 5}]}
    assert document == {"a": [{"b.c": 1}, {"d": [2, 3]}]}


def test_addresses_below_a_base() -> None:
    assert with_path("https://host/base/?x=1", "/v2/models/a") == "https://host/base/v2/models/a?x=1"


def test_the_examples_of_the_reference(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FLOWERS_KEY", "k3y")
    (tmp_path / "birds.txt").write_text("ant\nbee\n")
    page = (Path(__file__).parents[2] / "docs" / "audit-endpoints.md").read_text()
    (tmp_path / "token").write_text("t0ken")
    text = "\n".join(re.findall("```toml\n(.*?)```", page, re.DOTALL)).replace("/run/secrets/birds", "token")
    assert {name: type(each.protocol) for name, each in file.parse(text, tmp_path).items()} == {
        "birds": Oip,
        "cats": TorchServe,
        "flowers": HttpJson,
    }
    usual = Limits()
    for key in ("timeout_s", "retries", "requests_per_second", "concurrency"):
        assert re.search(rf"`{key}` \|.*\| {getattr(usual, key):g};", page)
    assert usual.max_response_bytes == 4 * 2**20


def test_the_file_is_read_without_torch() -> None:
    program = (
        "import sys; from ouzel.endpoints.description import config, file; "
        "print([name for name in ('torch', 'urllib3', 'ouzel.audit') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
