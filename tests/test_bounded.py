"""JSON and messages of strangers: counted before anything is made of them, as a plain walk counts afterwards."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from ouzel import bounded_json, bounded_messages
from ouzel.errors import InvalidArgument
from ouzel.request_bounds import most_elements
from ouzel_protos.oip import inference_pb2 as oip
from ouzel_protos.v1 import dataset_pb2, job_pb2

TEXTS = st.text(alphabet=st.sampled_from('a,[{}]"\\:é\n'), max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def marks(value: Any) -> int:
    """A bracket for each list and object, a comma for each element but its first."""
    if not isinstance(value, list | dict):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(len(inner) - 1, 0) + sum(map(marks, inner))


@given(DOCUMENTS)
def test_elements_of_json_are_those_outside_of_texts(document: Any) -> None:
    text, count = json.dumps(document).encode(), marks(document)
    assert bounded_json.loads(text, "body", max(count, 1)) == document
    exact = bounded_json.elements(text, count)
    assert exact == count or text.count(b'"') > 4 * (count + 1)
    if count:
        with pytest.raises(InvalidArgument, match=f"more than {count - 1} values"):
            bounded_json.loads(text, "body", count - 1)


@given(st.binary(max_size=40) | st.text(alphabet='"\\,[', max_size=40).map(str.encode))
def test_what_is_no_json_is_refused_in_our_words(text: bytes) -> None:
    try:
        expected = json.loads(text)
    except (ValueError, RecursionError):
        with pytest.raises(InvalidArgument):
            bounded_json.loads(text, "body")
    else:
        assert str(bounded_json.loads(text, "body")) == str(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 9000, "nested too deeply"),
        (b"1" * 5000, "too many digits"),
        (b'"\xff"', "byte 1 is not of UTF-8"),
        (b"{", "line 1 column 2"),
        (b"[NaN]", "NaN is no number of JSON"),
    ],
)
def test_reasons_name_nothing_of_python(text: bytes, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        bounded_json.loads(text, "body", strict=True)
    assert "sys." not in str(caught.value)
    assert "recursion" not in str(caught.value)


HOSTILE = {
    "objects": b'{"entries":[' + b"{}," * 2_000_000 + b"{}]}",
    "lists": b"[" + b"[]," * 2_000_000 + b"1]",
    "texts": b"[" + b'"",' * 2_000_000 + b"1]",
    "quotes in a text": b'["' + b'\\"' * 3_000_000 + b'",' + b"1," * 20_000 + b"1]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_made_of_json_with_too_many_elements(name: str) -> None:
    text = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match="more than 10000 values"):
            bounded_json.loads(text, "body")
        assert tracemalloc.get_traced_memory()[1] < 3 * len(text)
    finally:
        tracemalloc.stop()


def fields(message: Message) -> int:
    """Fields on the wire, of messages within it too, and elements of packed integers."""
    count = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                count += 1 + fields(each)
        elif not field.is_repeated:
            count += 1
        elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            count += len(value)
        elif field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            count += 1
        else:
            bare = type(message)()
            getattr(bare, field.name).extend(value)
            count += bare.ByteSize() - len_of_varint(bare)
    return count


def len_of_varint(bare: Message) -> int:
    """Bytes that say how long the only field of a message is."""
    size, length = bare.ByteSize(), 1
    while size - 1 - length >= 2 ** (7 * length):
        length += 1
    return length


REQUESTS = st.builds(
    lambda names, shape, floats, outputs, raw: oip.ModelInferRequest(
        model_name="m",
        inputs=[
            oip.ModelInferRequest.InferInputTensor(
                name=name, shape=shape, contents=oip.InferTensorContents(fp32_contents=floats)
            )
            for name in names
        ],
        outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs],
        raw_input_contents=raw,
    ),
    st.lists(st.text(max_size=3), max_size=3),
    st.lists(st.integers(0, 2**40), max_size=40),
    st.lists(st.floats(width=32), max_size=9),
    st.lists(st.text(max_size=3), max_size=5),
    st.lists(st.binary(max_size=200), max_size=3),
)


@given(REQUESTS)
def test_elements_of_messages_are_the_fields_on_the_wire(message: oip.ModelInferRequest) -> None:
    content, count = message.SerializeToString(), fields(message)
    if len(content) > count:
        counted = bounded_messages._Counter(content, count).within(message.DESCRIPTOR, 0, len(content), 0)
        assert counted == count
    assert bounded_messages.parsed(oip.ModelInferRequest, content, max(count, 1)) == message


@given(st.binary(max_size=60))
def test_what_is_no_message_is_refused_as_protobuf_refuses_it(content: bytes) -> None:
    try:
        dataset_pb2.CreateDatasetRequest.FromString(content)
    except Exception:  # noqa: BLE001 - whatever it says
        with pytest.raises(InvalidArgument):
            bounded_messages.parsed(dataset_pb2.CreateDatasetRequest, content, 1)
    else:
        bounded_messages.parsed(dataset_pb2.CreateDatasetRequest, content, 100)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (oip.ModelInferRequest, b"\x0a\x01m" + b"\x32\x00" * 1_000_000),
        (oip.ModelInferRequest, b"\x2a\x03" + b"\x1a\x01\x01" * 500_000),
        (dataset_pb2.CreateDatasetRequest, b"\x12\x00" * 1_000_000),
        (job_pb2.ListJobsRequest, job_pb2.ListJobsRequest(states=[2] * 500_000).SerializeToString()),
        (job_pb2.ListJobsRequest, b"\x08\x02" * 500_000),  # the same, one by one
        (job_pb2.GetJobRequest, b"\x7b\x7c" * 500_000),  # groups that nobody knows
    ],
)
def test_nothing_is_made_of_messages_with_too_many_elements(kind: type[Message], content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match="more than 10000 fields"):
            bounded_messages.parsed(kind, content)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_what_callers_need_fits() -> None:
    """As much as the worker takes of it."""
    file = dataset_pb2.FileRef(sha256="0" * 64, size=3)
    entry = dataset_pb2.DatasetEntry(path="a/b.png", label="a", file=file)
    recorded = job_pb2.RecordedPrediction(path="a/b.png", label="a", service="s")
    recorded.time.GetCurrentTime()
    for path, message in {
        "/ouzel.v1.DatasetService/CreateDataset": dataset_pb2.CreateDatasetRequest(entries=[entry] * 2000),
        "/ouzel.v1.DatasetService/FindMissing": dataset_pb2.FindMissingRequest(files=[file] * 10_000),
        "/ouzel.v1.JobService/CreateJob": job_pb2.CreateJobRequest(
            spec=job_pb2.JobSpec(audit=job_pb2.AuditSpec(recorded=[recorded] * 20_000))
        ),
    }.items():
        bounded_messages.parsed(type(message), message.SerializeToString(), most_elements(path))
