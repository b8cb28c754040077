"""What an operator says about an endpoint. No torch: the worker's service reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ouzel.checks import one_of, within
from ouzel.endpoints.description.protocols import HttpJson, Oip, TorchServe
from ouzel.endpoints.description.secrets import Secret
from ouzel.endpoints.description.urls import check_url
from ouzel.errors import InvalidArgument
from ouzel.model_names import check_name
from ouzel_protos.text import LONGEST_LABEL, is_label, shown

LARGEST_SIZE = 4096  # pixels along an edge
MOST_LABELS = 100_000
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# What the client itself says, or what would change how the message is read.
_OWN_HEADERS = frozenset({
    *("host", "content-length", "content-type", "content-encoding", "transfer-encoding", "accept-encoding", "te"),
    *("connection", "keep-alive", "trailer", "upgrade", "expect", "inference-header-content-length"),
    *("grpc-timeout", "grpc-encoding", "grpc-accept-encoding"),
})  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """How an endpoint may be asked, and what its answers may cost.

    Attributes:
        timeout_s: Seconds for one request with all of its attempts and the waits between them, 0.1..600.
        retries: Further attempts after a failed connection or the answers 429, 502, 503 and 504; 0..10.
        requests_per_second: Attempts, over all threads of a process; 0.01..10000. As many as `concurrency` may come at
            once.
        concurrency: Requests at a time, 1..32.
        max_response_bytes: Of one answer, 1 KiB..64 MiB.
    """

    timeout_s: float = 30.0
    retries: int = 3
    requests_per_second: float = 10.0
    concurrency: int = 4
    max_response_bytes: int = 4 * 2**20

    def __post_init__(self) -> None:
        within("timeout_s", self.timeout_s, 0.1, 600, unit="s")
        within("retries", self.retries, 0, 10)
        within("requests_per_second", self.requests_per_second, 0.01, 10_000)
        within("concurrency", self.concurrency, 1, 32)
        within("max_response_bytes", self.max_response_bytes, 1024, 64 * 2**20)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that callers may name.

    Attributes:
        name: What callers call it.
        url: Of the server for OIP and TorchServe, without the path that the protocol gives; else the whole address.
            It may hold a secret and is never shown.
        protocol: How it is asked.
        labels: Of its classes, in the order of the scores; empty if an Ouzel of its own tells them.
        size: (height, width) in pixels of the pictures that it is sent; None keeps the proportions of each image.
        resize: Pixels of the shorter edge before the centre is cropped to `size`; None squeezes the whole image.
        interpolation: "bilinear" or "bicubic".
        limits: How it may be asked.
        headers: Sent with each request; over gRPC as metadata.
        ca_file: Certificates (PEM) that sign the server's; None takes those of the system.
        proxy: URL of a proxy; None asks directly, whatever the environment says.
    """

    name: str
    url: str = field(repr=False)
    protocol: Oip | TorchServe | HttpJson
    labels: tuple[str, ...]
    size: tuple[int, int] | None
    resize: int | None = None
    interpolation: str = "bilinear"
    limits: Limits = field(default_factory=Limits)
    headers: tuple[tuple[str, Secret], ...] = ()
    ca_file: Path | None = None
    proxy: Secret | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_url(self.url, grpc=isinstance(self.protocol, Oip))
        self._check_size()
        self._check_labels()
        one_of("interpolation", self.interpolation, ("bilinear", "bicubic"))
        self._check_headers()
        if self.proxy is not None and self.grpc:
            raise InvalidArgument("proxy: is for http and https, not for gRPC", field="proxy")

    @property
    def grpc(self) -> bool:
        """Whether it is asked over gRPC."""
        return self.url.startswith(("grpc://", "grpcs://"))

    @property
    def who(self) -> str:
        """How errors name it."""
        return f"endpoint {self.name!r}"

    def _check_size(self) -> None:
        if self.size is None:
            if isinstance(self.protocol, Oip) or self.resize is not None:
                raise InvalidArgument("size: missing; state the [height, width] of the picture in pixels", field="size")
            return
        for edge in self.size:
            within("size", edge, 1, LARGEST_SIZE, unit="pixels")
        if self.resize is not None:
            within("resize", self.resize, max(self.size), 2 * LARGEST_SIZE, unit="pixels")

    def _check_labels(self) -> None:
        told = isinstance(self.protocol, TorchServe) and self.protocol.handler == "ouzel"
        if not self.labels and not told:
            raise InvalidArgument(
                "labels: missing; the service does not say which class each of its scores is for", field="labels"
            )
        if self.labels:
            within("labels", len(self.labels), 2, MOST_LABELS, unit="labels")
        for index, label in enumerate(self.labels):
            if not is_label(label):
                where = f"labels[{index}]"
                raise InvalidArgument(
                    f"{where}: {shown(label, 80)} is not a line of 1 to {LONGEST_LABEL} characters", field=where
                )
        by_label = isinstance(self.protocol, TorchServe) or (
            isinstance(self.protocol, HttpJson) and self.protocol.form != "array"
        )
        if by_label and not told and len(set(self.labels)) < len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise InvalidArgument(
                f"labels: {shown(twice, 80)} comes twice; scores that are told by label need labels that differ",
                field="labels",
            )

    def _check_headers(self) -> None:
        names = [name.lower() for name, _ in self.headers]
        for name in names:
            if not _TOKEN.fullmatch(name) or name in _OWN_HEADERS or (self.grpc and name.endswith("-bin")):
                raise InvalidArgument(f"headers: {name!r:.80} cannot be set", field="headers")
        if len(set(names)) < len(names):
            raise InvalidArgument("headers: a name comes twice", field="headers")
