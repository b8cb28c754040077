"""Events are read as the SDK of CloudEvents writes them; what is no event is refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ouzel.sink.cloudevents import Event, Malformed, parse
from support.sink import REQUEST, headers

Raw = list[tuple[bytes, bytes]]


def raw(values: dict[str, str]) -> Raw:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in values.items()]


def attributes(**more: str) -> dict[str, Any]:
    return {
        "id": "8a1c", "source": "http://localhost:9081/", "type": REQUEST, "specversion": "1.0",
        "datacontenttype": "application/json", "inferenceservicename": "Schäfer & Söhne 100%", **more,
    }  # fmt: skip


@pytest.mark.parametrize("write", [to_binary_event, to_structured_event])
@pytest.mark.parametrize("data", [{"instances": [[1.5, "ä", None]]}, [1, 2], b"\x00\xff\x89PNG"], ids=str)
def test_what_the_sdk_writes_is_read(write: Any, data: Any) -> None:
    kind = "application/octet-stream" if isinstance(data, bytes) else "application/json"
    as_text = write is to_binary_event and not isinstance(data, bytes)
    payload = json.dumps(data) if as_text else data
    message = write(CloudEvent(attributes(datacontenttype=kind), payload))
    event = parse(raw(message.headers), message.body)
    assert (event.id, event.source, event.type) == ("8a1c", "http://localhost:9081/", REQUEST)
    assert event.extensions["inferenceservicename"] == "Schäfer & Söhne 100%"
    assert event.content_type == kind
    assert (event.data if isinstance(data, bytes) else json.loads(event.data)) == data


def test_kserves_headers_are_read() -> None:
    event = parse(raw(headers(REQUEST, "1", **{"Ce-Metadata": '{"X-Caller":["gate 7"]}'})), b"{}")
    assert event.attribute("type") == REQUEST
    assert event.attribute("namespace") == "default"
    assert event.extensions["metadata"] == '{"X-Caller":["gate 7"]}'
    assert event.attribute("nothing") is None


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("50%", "50%"),
        ("a%20b", "a b"),
        ("a b", "a b"),
        ("%C3%A4", "ä"),
        ("%zz%", "%zz%"),
        ("a%0Ab", "a%0Ab"),
        ("%ff", "%ff"),
    ],
)
def test_senders_that_encode_nothing_are_read(sent: str, value: str) -> None:
    event = parse(raw(headers(REQUEST, "1", **{"Ce-Caller": sent})), b"")
    assert event.extensions["caller"] == value


BROKEN: dict[str, tuple[Raw, bytes, str]] = {
    "nothing": ([], b"", "not-an-event"),
    "only a body": (raw({"Content-Type": "application/json"}), b"{}", "not-an-event"),
    "no id": (raw({k: v for k, v in headers(REQUEST, "").items() if k != "Ce-Id"}), b"", "id"),
    "empty id": (raw(headers(REQUEST, "")), b"", "id"),
    "id of spaces": (raw(headers(REQUEST, "%20%20")), b"", "id"),
    "long id": (raw(headers(REQUEST, "a" * 257)), b"", "id"),
    "raw latin": (raw(headers(REQUEST, "ä")), b"", "attribute"),
    "id twice": ([*raw(headers(REQUEST, "1")), (b"ce-id", b"2")], b"", "attribute"),
    "content-type twice": ([*raw(headers(REQUEST, "1")), (b"content-type", b"text/plain")], b"", "content-type"),
    "no source": (raw(headers(REQUEST, "1") | {"Ce-Source": ""}), b"", "attribute"),
    "version 0.3": (raw(headers(REQUEST, "1") | {"Ce-Specversion": "0.3"}), b"", "specversion"),
    "strange name": (raw(headers(REQUEST, "1") | {"Ce-a_b": "1"}), b"", "attribute"),
    "long extension": (raw(headers(REQUEST, "1") | {"Ce-Metadata": "x" * 9000}), b"", "attribute"),
    "many attributes": (raw(headers(REQUEST, "1") | {f"Ce-x{n}": "1" for n in range(70)}), b"", "attribute"),
    "batch": (raw({"Content-Type": "application/cloudevents-batch+json"}), b"[]", "content-type"),
    "xml": (raw({"Content-Type": "application/cloudevents+xml"}), b"<a/>", "content-type"),
}
STRUCTURED = {"id": "1", "source": "/", "type": REQUEST, "specversion": "1.0"}
DOCUMENTS: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "json"),
    "no object": (b"[1]", "json"),
    "no text": (b"\xff\xfe\xfd", "json"),
    "a key twice": (b'{"id": "1", "id": "2"}', "json"),
    "millions of members": (b"[" + b"{}," * 5_000_000 + b"1]", "json"),
    "deep": (b"[" * 100_000, "json"),
    "digits": (b'{"id": ' + b"9" * 10_000 + b"}", "json"),
    "id is a list": (STRUCTURED | {"id": [1]}, "attribute"),
    "id is a float": (STRUCTURED | {"id": 1.5}, "attribute"),
    "id is null": (STRUCTURED | {"id": None}, "id"),
    "data twice": (STRUCTURED | {"data": 1, "data_base64": "AA=="}, "data"),
    "no base64": (STRUCTURED | {"data_base64": "!"}, "data"),
    "base64 is a number": (STRUCTURED | {"data_base64": 3}, "data"),
    "lone surrogate": (STRUCTURED | {"datacontenttype": "text/plain", "data": "\ud800"}, "data"),
    "surrogate id": (STRUCTURED | {"id": "\ud800"}, "id"),
    "version is a list": (STRUCTURED | {"specversion": []}, "attribute"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_event_is_refused(case: str) -> None:
    sent, body, reason = BROKEN[case]
    with pytest.raises(Malformed) as caught:
        parse(sent, body)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("case", DOCUMENTS)
def test_structured_documents_that_are_no_events_are_refused(case: str) -> None:
    document, reason = DOCUMENTS[case]
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(Malformed) as caught:
        parse(raw({"Content-Type": "application/cloudevents+json; charset=utf-8"}), body)
    assert caught.value.reason == reason


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(st.dictionaries(st.sampled_from([*STRUCTURED, "data", "data_base64", "x", "datacontenttype"]), _json))
def test_no_document_does_anything_else(values: dict[str, Any]) -> None:
    try:
        body = json.dumps(STRUCTURED | values).encode()
    except UnicodeEncodeError:
        return
    try:
        found = parse(raw({"Content-Type": "application/cloudevents+json"}), body)
    except Malformed:
        return
    assert isinstance(found, Event)
    assert 1 <= len(found.id) <= 256
