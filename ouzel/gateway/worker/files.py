"""Files over REST as they are: sent to a data set without base64 and digests, and fetched from a job likewise."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

from starlette.requests import Request

from ouzel.gateway.rest.bodies import Aside
from ouzel.gateway.worker.methods import Method
from ouzel_protos.v1 import dataset_pb2, job_pb2

BINARY = "application/octet-stream"
_CHUNK = 512 * 2**10  # bytes
_PLAIN = ("text/plain", "application/json", "image/png", "image/jpeg", "image/webp")  # what browsers do not run


def is_upload(method: Method, request: Request) -> bool:
    """Whether the body is one file of a data set."""
    return method.request is dataset_pb2.UploadFilesRequest and _names(request.headers.get("content-type"))


def is_download(method: Method, request: Request) -> bool:
    """Whether the caller wants the bytes of an artifact, not messages."""
    return method.answer is job_pb2.ArtifactChunk and _names(request.headers.get("accept"))


async def uploaded(body: bytes, aside: Aside) -> AsyncIterator[bytes]:
    """The messages that upload a file. aside: does what takes long in a thread."""
    digest = await aside(_digest, body)
    for part in _parts(body, digest):
        yield part


def media_type(first: bytes) -> str:
    """Of a download, by its first message; what a browser could run comes as bytes."""
    said = job_pb2.ArtifactChunk.FromString(first).artifact.media_type
    return said if said in _PLAIN else BINARY


async def downloaded(first: bytes, answers: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """The bytes of an artifact. An error ends the connection before the body is whole: it has no other place."""
    yield job_pb2.ArtifactChunk.FromString(first).data
    async for content in answers:
        yield job_pb2.ArtifactChunk.FromString(content).data


def _names(header: str | None) -> bool:
    return (header or "").partition(";")[0].strip().lower() == BINARY


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _parts(body: bytes, digest: str) -> Iterable[bytes]:
    ref = dataset_pb2.FileRef(sha256=digest, size=len(body))
    yield dataset_pb2.UploadFilesRequest(file=ref).SerializeToString()
    for offset in range(0, len(body), _CHUNK):
        chunk = dataset_pb2.Chunk(offset=offset, data=body[offset : offset + _CHUNK])
        yield dataset_pb2.UploadFilesRequest(chunk=chunk).SerializeToString()
