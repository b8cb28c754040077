"""Messages that cannot be read, have too many elements, or hold text that cannot be shown do not reach a method.

Without this, gRPC answers bytes that are no message with UNKNOWN and names of Python's classes.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ouzel import grpc_errors
from ouzel.bounded_messages import check_elements
from ouzel.errors import InvalidArgument, OuzelError, ResourceExhausted
from ouzel.request_bounds import most_elements
from ouzel_protos.text import is_line, shown
from ouzel_protos.v1 import dataset_pb2, job_pb2

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_SHOWN = 40  # characters
_LARGE = 32 * 2**10  # bytes
_REFUSALS = (InvalidArgument, ResourceExhausted)
# Messages of all services but audits, which carry images, masks and maps.
_LARGEST, _LARGE_SERVICE = 4 * 2**20, "/ouzel.v1.AuditService/"
# There may be a great many of these, and `ouzel_protos.manifest` has rules of its own for all of their texts.
_CHECKED_ELSEWHERE = frozenset(
    {
        dataset_pb2.DatasetEntry.DESCRIPTOR.full_name,
        dataset_pb2.FileRef.DESCRIPTOR.full_name,
    }
)


class ReadableInterceptor(grpc.aio.ServerInterceptor):
    """Refuses such messages with INVALID_ARGUMENT, whatever the service and the method: single ones and streams."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Hands the call on to a handler that checks its messages."""
        handler = await continuation(handler_call_details)
        # None: there is no such method. No deserializer: the bytes are the message.
        if handler is None or handler.request_deserializer is None:
            return handler
        return _readable(handler, handler_call_details.method)


def check_texts(message: Message, path: str = "") -> None:
    """Raises InvalidArgument that names the field of a text with control characters or line breaks in it."""
    for field, value in message.ListFields():
        here = _path(message, field, path)
        if _is_map(field):
            _check_map(value, here)
        elif field.type == FieldDescriptor.TYPE_STRING:
            for text in (value,) if isinstance(value, str) else value:
                _check(text, here)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            if isinstance(value, Message):
                check_texts(value, here)
                continue
            for number, each in enumerate(value):
                if each.DESCRIPTOR.full_name in _CHECKED_ELSEWHERE:
                    break
                check_texts(each, f"{here}[{number}]")


class _Unreadable:
    """What comes in place of a message."""

    def __init__(self, error: OuzelError) -> None:
        self.error = error


def _readable(handler: Handler, method: str) -> Handler:
    """The same, which no such message reaches."""
    parse: Any = handler.request_deserializer
    of = getattr(parse, "__self__", None)
    kind = of if isinstance(of, type) and issubclass(of, Message) else None
    name = "the request" if kind is None else kind.DESCRIPTOR.full_name
    limited, most = not method.startswith(_LARGE_SERVICE), most_elements(method)

    def deserialize(content: bytes) -> Any:
        if limited and len(content) > _LARGEST:
            problem = f"request: {len(content)} bytes are more than {_LARGEST}, the most that this method takes"
            return _Unreadable(ResourceExhausted(problem, field="request"))
        try:
            if kind is not None:
                check_elements(kind, content, most)
            return parse(content)
        except InvalidArgument as error:
            return _Unreadable(error)
        except Exception:  # noqa: BLE001 - whatever it says, it is about our insides
            problem = f"request: {len(content)} bytes are no message of the type {name}"
            return _Unreadable(InvalidArgument(problem, field="request"))

    async def checked(message: Any) -> Any:
        if isinstance(message, _Unreadable):
            raise message.error
        if message.ByteSize() > _LARGE:  # other calls must not wait for it
            await asyncio.to_thread(check_texts, message)
        else:
            check_texts(message)
        return message

    async def each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in requests:
            yield await checked(message)

    async def stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return each(requests)

    function: Any = _method(handler)
    read = stream if handler.request_streaming else checked
    make: Any = getattr(
        grpc,
        f"{'stream' if handler.request_streaming else 'unary'}_"
        f"{'stream' if handler.response_streaming else 'unary'}_rpc_method_handler",
    )
    return make(
        _many(function, read) if inspect.isasyncgenfunction(function) else _one(function, read),
        request_deserializer=deserialize,
        response_serializer=handler.response_serializer,
    )


def _method(handler: Handler) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _one(method: Any, read: Callable[[Any], Awaitable[Any]]) -> Any:
    async def answered(request: Any, context: Any) -> Any:
        try:
            return await method(await read(request), context)
        except _REFUSALS as error:  # of a stream, in the middle of it
            await grpc_errors.abort(context, error)

    return answered


def _many(method: Any, read: Callable[[Any], Awaitable[Any]]) -> Any:
    async def answered(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for message in method(await read(request), context):
                yield message
        except _REFUSALS as error:
            await grpc_errors.abort(context, error)

    return answered


def _check_map(values: Mapping[Any, Any], path: str) -> None:
    for key, value in values.items():
        _check(str(key), path)
        if isinstance(value, Message):
            check_texts(value, f"{path}.{key}")
        elif isinstance(value, str):
            _check(value, f"{path}.{key}")


def _check(text: str, path: str) -> None:
    if not is_line(text):
        raise InvalidArgument(
            f"{path}: {shown(text, _SHOWN)} holds control characters or line breaks; it must be one line of text",
            field=path,
        )


def _path(message: Message, field: FieldDescriptor, path: str) -> str:
    """A spec's fields are named from its kind on, as they are in all errors."""
    if isinstance(message, job_pb2.JobSpec) or (isinstance(message, job_pb2.CreateJobRequest) and field.name == "spec"):
        return ""
    return f"{path}.{field.name}" if path else str(field.name)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
