"""The operator's file of endpoints, and the short form NAME=URL. docs/audit-endpoints.md is the reference. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ouzel.checks import one_of
from ouzel.endpoints.description.config import Endpoint, Limits
from ouzel.endpoints.description.json_path import JsonPath
from ouzel.endpoints.description.protocols import HttpJson, ImageInput, Oip, TensorInput, TorchServe
from ouzel.endpoints.description.table import Table
from ouzel.endpoints.description.urls import Address, check_url, read_url
from ouzel.endpoints.description.values import headers_of, labels_of, secret_of, size_of, text_of, toml_of
from ouzel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

KINDS = ("oip", "torchserve", "http-json")
_FRACTION = re.compile(r"\s*1\s*/\s*(\d{1,9}(?:\.\d{1,9})?)\s*")
_USE_FILE = "describe this endpoint in the file of --audit-endpoints"


def read(path: str | Path) -> dict[str, Endpoint]:
    """Read the operator's file.

    Args:
        path: A TOML file with one table per endpoint. Paths in it are relative to its folder.

    Returns:
        The endpoints by name.

    Raises:
        InvalidArgument: Names the endpoint and the field; also for a secret that is not there.
        NotFound: There is no such file.
    """
    path = Path(path)
    return parse(text_of(path, "audit-endpoints"), path.parent)


def parse(text: str, folder: Path) -> dict[str, Endpoint]:
    """Read the content of such a file.

    Args:
        text: TOML.
        folder: To which paths in it are relative.

    Returns:
        The endpoints by name.

    Raises:
        InvalidArgument: As `read`.
    """
    document = toml_of(text, "audit-endpoints")
    endpoints = {}
    for name, values in document.items():
        try:
            if not isinstance(values, dict):
                raise InvalidArgument(f"is not a table [{name}]", field="")
            endpoints[name] = _endpoint(name, Table(values), folder)
        except (InvalidArgument, NotFound, FailedPrecondition) as error:
            raise InvalidArgument(f"{name[:80]}.{error}", field=f"{name}.{error.field}".rstrip(".")) from None
    return endpoints


def parse_flag(value: str) -> Endpoint:
    """Read NAME=URL, which is enough where the service itself tells the rest: a model that another Ouzel serves.

    Args:
        value: As `birds=https://host/predictions/birds`.

    Raises:
        InvalidArgument: It is not NAME=URL, the kind cannot be told from the URL, or the protocol leaves open what must
            be known.
    """
    name, separator, url = value.partition("=")
    if not (separator and name and url):
        raise InvalidArgument("audit-endpoint: is not NAME=URL", field="audit-endpoint")
    try:
        check_url(url, grpc=True)
        address = read_url(url)
        if address.kind == "torchserve":
            protocol = TorchServe(address.model, address.version, handler="ouzel")
            return Endpoint(name, address.base, protocol, labels=(), size=None)
        if address.kind == "oip":
            open_questions = "labels, the scale, mean and std of the values, and whether its scores are logits"
            raise InvalidArgument(
                f"the Open Inference Protocol does not say a model's {open_questions}; {_USE_FILE}", field="url"
            )
        raise InvalidArgument(
            f"url: ends in neither /v2/models/NAME nor /predictions/NAME, so its kind is not known; {_USE_FILE}",
            field="url",
        )
    except InvalidArgument as error:
        raise InvalidArgument(f"audit-endpoint {name!r:.80}: {error}", field="audit-endpoint") from None


def registered(path: str | Path | None = None, flags: Sequence[str] = ()) -> dict[str, Endpoint]:
    """All endpoints of an operator, by name.

    Args:
        path: The file; may be None.
        flags: NAME=URL each.

    Raises:
        AlreadyExists: A name comes twice.
        InvalidArgument: As `read` and `parse_flag`.
        NotFound: There is no such file.
    """
    endpoints = read(path) if path is not None else {}
    for flag in flags:
        endpoint = parse_flag(flag)
        if endpoint.name in endpoints:
            raise AlreadyExists(f"audit-endpoint: {endpoint.name!r} is registered twice", field="audit-endpoint")
        endpoints[endpoint.name] = endpoint
    return endpoints


def _endpoint(name: str, table: Table, folder: Path) -> Endpoint:
    url = table.needed("url", "give the address of the service")
    check_url(url, grpc=True)
    address = read_url(url)
    kind = table.text("kind") or address.kind
    one_of("kind", kind, KINDS)
    if kind not in (address.kind, "http-json"):
        address = Address(url)  # of the server
    model = _agreed("model", table.text("model"), address.model)
    version = _agreed("version", table.text("version"), address.version)
    builders: dict[str, Callable[[Table, str, str], Oip | TorchServe | HttpJson]] = {
        "oip": _oip,
        "torchserve": _torchserve,
        "http-json": _http_json,
    }
    protocol = builders[kind](table, model, version)
    size, proxy, ca_file = size_of(table), table.take("proxy"), table.text("ca_file")
    endpoint = Endpoint(
        name=name,
        url=url if kind == "http-json" else address.base,
        protocol=protocol,
        labels=labels_of(table, folder),
        size=size,
        resize=table.integer("resize", None),
        interpolation=table.text("interpolation", "bilinear"),
        limits=_limits(table),
        headers=headers_of(table, folder),
        ca_file=folder / ca_file if ca_file else None,
        proxy=None if proxy is None else secret_of(proxy, "proxy", folder),
    )
    table.finish()
    if endpoint.ca_file is not None and not endpoint.ca_file.is_file():
        raise InvalidArgument(f"ca_file: {endpoint.ca_file} is not a file", field="ca_file")
    return endpoint


def _agreed(key: str, given: str, told: str) -> str:
    if given and told and given != told:
        raise InvalidArgument(f"{key}: {given!r:.80} is not the one of the URL, {told!r:.80}", field=key)
    return given or told


def _oip(table: Table, model: str, version: str) -> Oip:
    given, output = table.table("input"), table.table("output")
    scale = given.take("scale")
    if isinstance(scale, str) and (match := _FRACTION.fullmatch(scale)) and float(match[1]):
        scale = 1 / float(match[1])
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float)):
        raise InvalidArgument('input.scale: is neither a number nor a text such as "1/255"', field="input.scale")
    tensor = TensorInput(
        layout=given.needed("layout", "state NCHW or NHWC"),
        datatype=given.needed("datatype", "state FP32 or UINT8"),
        scale=None if scale is None else float(scale),
        mean=given.numbers("mean"),
        std=given.numbers("std"),
        channels=given.text("channels", "RGB"),
        name=given.text("name"),
    )
    given.finish()
    protocol = Oip(
        model=model,
        input=tensor,
        scores=output.text("scores"),
        version=version,
        output=output.text("name"),
        transfer=table.text("transfer", "json"),
        batch=table.integer("batch", 8) or 0,
    )
    output.finish()
    return protocol


def _torchserve(table: Table, model: str, version: str) -> TorchServe:
    given = table.table("input")
    protocol = TorchServe(model, version, _image(given), table.text("handler", "image_classifier"))
    given.finish()
    return protocol


def _http_json(table: Table, model: str, version: str) -> HttpJson:
    if model:
        raise InvalidArgument("model: is for oip and torchserve; here it is part of the url", field="model")
    given, output = table.table("input"), table.table("output")
    protocol = HttpJson(
        scores=output.text("scores"),
        image=given.needed("image", "state body, multipart or json"),
        form=output.needed("form", "state array, mapping or list"),
        path=JsonPath.parse(output.text("path"), "output.path"),
        input=_image(given),
        form_field=given.text("field"),
        place=JsonPath.parse(given.text("path"), "input.path"),
        prefix=given.text("prefix"),
        body=given.mapping("body"),
        label_key=output.text("label_key", "label"),
        score_key=output.text("score_key", "score"),
        partial=output.flag("partial"),
        version=version,
    )
    given.finish()
    output.finish()
    return protocol


def _image(table: Table) -> ImageInput:
    return ImageInput(table.text("format", "png"), table.integer("quality", 95) or 0)


def _limits(table: Table) -> Limits:
    usual = Limits()
    return Limits(
        timeout_s=table.number("timeout_s", usual.timeout_s),
        retries=_whole(table, "retries", usual.retries),
        requests_per_second=table.number("requests_per_second", usual.requests_per_second),
        concurrency=_whole(table, "concurrency", usual.concurrency),
        max_response_bytes=_whole(table, "max_response_bytes", usual.max_response_bytes),
    )


def _whole(table: Table, key: str, usual: int) -> int:
    value = table.integer(key, usual)
    return usual if value is None else value
