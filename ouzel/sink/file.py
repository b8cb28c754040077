"""The operator's sink file. docs/audit-sink.md is the reference. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ouzel.audit.dataset.design import DatasetDesign, GroupMargins
from ouzel.audit.evidence import Margins
from ouzel.audit.options import PredictionOptions
from ouzel.checks import did_you_mean, one_of
from ouzel.endpoints.description import file as endpoints
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.json_path import JsonPath
from ouzel.endpoints.description.table import Table
from ouzel.endpoints.description.urls import check_url
from ouzel.endpoints.description.values import headers_of, secret_of, text_of, toml_of
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.sink.config import REQUEST, RESPONSE, Audited, Limits, Notify, Service, SinkConfig
from ouzel.sink.sampling import Condition

_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")
_FILE = "sink file"


def read(path: str | Path) -> SinkConfig:
    """Read the file.

    Args:
        path: A TOML file. Paths in it are relative to its folder.

    Raises:
        InvalidArgument: Names the field.
        NotFound: There is no such file.
    """
    path = Path(path)
    values = toml_of(text_of(path, _FILE), _FILE)
    document = Table(values)
    own, services = document.table("sink"), document.mapping("services")
    document.finish()
    described = _described(own, path.parent)
    config = SinkConfig(
        services=tuple(_service(name, each, described) for name, each in services.items()),
        worker=own.text("worker"),
        worker_token=_secret(own, "worker_token", path.parent),
        worker_ca=str(path.parent / ca) if (ca := own.text("worker_ca")) else "",
        audit_s=own.number("audit_s", 120.0),
        token=_secret(own, "token", path.parent),
        notify=_notify(own.table("notify"), path.parent),
        limits=_limits(own.table("limits")),
    )
    own.finish()
    return config


def _described(own: Table, folder: Path) -> Mapping[str, Endpoint]:
    file = own.needed("endpoints", "name the file that describes bodies, docs/audit-endpoints.md")
    return endpoints.read(folder / file)


def _secret(table: Table, key: str, folder: Path) -> Any:
    value = table.take(key)
    return None if value is None else secret_of(value, table.path(key), folder)


def _notify(table: Table, folder: Path) -> Notify | None:
    url, headers, timeout_s = table.text("url"), headers_of(table, folder), table.number("timeout_s", 10.0)
    table.finish()
    if not url:
        return None
    check_url(url, grpc=False)
    return Notify(url, headers, timeout_s)


def _limits(table: Table) -> Limits:
    usual = Limits()
    whole = ("body_bytes", "flight_bytes", "held_pairs", "held_bytes", "remembered", "keep_days", "connections")
    seconds = ("deadline_s", "queue_s", "remember_s", "body_s")
    values: dict[str, Any] = {each: table.integer(each, getattr(usual, each)) for each in whole}
    values |= {each: table.number(each, getattr(usual, each)) for each in seconds}
    table.finish()
    return Limits(**values)


def _service(name: str, values: object, described: Mapping[str, Endpoint]) -> Service:
    try:
        if not isinstance(values, dict):
            raise InvalidArgument(f"is not a table [services.{name[:80]}]", field="")
        table = Table(values)
        service = _of_table(name, table, described)
        table.finish()
        return service
    except (InvalidArgument, NotFound, FailedPrecondition) as error:
        raise InvalidArgument(
            f"services.{name[:80]}.{error}", field=f"services.{name}.{error.field}".rstrip(".")
        ) from None


def _of_table(name: str, table: Table, described: Mapping[str, Endpoint]) -> Service:
    bodies = table.text("bodies", name)
    if bodies not in described:
        raise InvalidArgument(
            f"bodies: {bodies!r:.80} is not in the file of endpoints{did_you_mean(bodies, described)}", field="bodies"
        )
    regions = table.text("regions", "known")
    one_of("regions", regions, ("known", "nominated"))
    alert = table.table("alert")
    run_length = alert.number("run_length", 10_000.0)
    alert.finish()
    return Service(
        name=name,
        match=_match(table),
        bodies=described[bodies],
        audited=_audited(table.table("audit")),
        design=_design(table),
        rate=table.number("rate", 0.01),
        conditions=_conditions(table, described[bodies].labels),
        label=_path(table, "label"),
        boxes=_path(table, "boxes"),
        mask=_path(table, "mask"),
        nominated=regions == "nominated",
        run_length=run_length,
        request=table.text("request", REQUEST),
        response=table.text("response", RESPONSE),
    )


def _match(table: Table) -> dict[str, str]:
    values = table.mapping("match")
    for key, value in values.items():
        if not _ATTRIBUTE.fullmatch(key) or not isinstance(value, str):
            raise InvalidArgument(f"match.{key[:64]}: is not an attribute of a-z and 0-9 with a string", field="match")
    return values


def _audited(table: Table) -> Audited:
    audited = Audited(*(table.text(key) for key in ("endpoint", "model", "surrogate", "method", "dataset")))
    table.finish()
    return audited


def _design(table: Table) -> DatasetDesign:
    """The margins by the names that the parameters of an audit of a data set have."""
    given, group, image = table.table("margins"), GroupMargins(), Margins()
    design = DatasetDesign(
        fills=tuple(_strings(table, "fills")) or PredictionOptions().fills,
        images=given.integer("images", 4) or 0,
        image_margins=Margins(given.number("effect", image.effect), given.number("effect_control", image.control)),
        margins=GroupMargins(
            flip=given.number("flip", group.flip),
            control=given.number("flip_control", group.control),
            agreement=given.number("agreement", group.agreement),
            fewest=given.integer("fewest", group.fewest) or 0,
        ),
        alpha=given.number("alpha", 0.05),
        scenes=tuple(_strings(table, "scenes")),
        clusters=False,
        suspects=0,
        seed=table.integer("seed", 0) or 0,
    )
    given.finish()
    return design


def _strings(table: Table, key: str) -> list[str]:
    value = table.take(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidArgument(f"{key}: is not a list of strings", field=key)
    return value


def _path(table: Table, key: str) -> JsonPath | None:
    text = table.text(key)
    return JsonPath.parse(text, key) if text else None


def _conditions(table: Table, labels: tuple[str, ...]) -> tuple[Condition, ...]:
    value = table.take("where")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidArgument("where: is not a list of tables", field="where")
    return tuple(_condition(Table(each, f"where[{number}]"), labels) for number, each in enumerate(value))


def _condition(table: Table, labels: tuple[str, ...]) -> Condition:
    below, classes = table.number("score_below", -1.0), tuple(_strings(table, "classes"))
    attribute, header, values = table.text("attribute"), table.text("metadata"), tuple(_strings(table, "values"))
    table.finish()
    kinds = [below != -1.0, bool(classes), bool(attribute), bool(header)]
    if sum(kinds) != 1:
        raise InvalidArgument(
            "where: a condition is one of score_below, classes, attribute with values, and metadata with values",
            field="where",
        )
    if unknown := [each for each in classes if each not in labels]:
        hint = did_you_mean(unknown[0], labels)
        raise InvalidArgument(f"where: {unknown[0]!r:.80} is not a label{hint}", field="where")
    if kinds[0]:
        return Condition("score_below", score=below)
    if classes:
        return Condition("classes", values=classes)
    return Condition("attribute" if attribute else "metadata", attribute or header, values)
