"""What the operator's sink file says. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ouzel.audit.dataset.design import DatasetDesign
from ouzel.canonical import canonical
from ouzel.checks import one_of, within
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.json_path import JsonPath
from ouzel.endpoints.description.protocols import HttpJson, Oip, TorchServe
from ouzel.endpoints.description.secrets import Secret
from ouzel.errors import InvalidArgument
from ouzel.model_names import check_name
from ouzel.sink.detector import Detector
from ouzel.sink.sampling import Condition

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
BACKGROUND, DISAGREEMENT = "background", "disagreement"
_MOST_MARGIN = 0.95  # a rate above it could hardly exceed it


@dataclass(frozen=True)
class Limits:
    """Bounds of the sink.

    Attributes:
        body_bytes: Of one event, 1 KiB..64 MiB.
        flight_bytes: Of the bodies that are being received, 1 MiB..4 GiB. Events beyond are dropped.
        held_pairs: Pairs that wait for their other half or for their audit, 1..1,000,000.
        held_bytes: Of their bodies on the disk, 1 MiB..1 TiB.
        deadline_s: Seconds until the other half of a pair must have come, 1..86,400.
        queue_s: Seconds that a whole pair may wait for its audit, 1..2,592,000.
        remembered: Pairs whose ids are remembered, 1,000..100,000,000.
        remember_s: Seconds that they are, `deadline_s`..2,592,000.
        keep_days: Days that results are kept, 1..3660.
        body_s: Seconds in which the headers of a request must have come, and then its body, 1..300.
        connections: At a time, 1..10,000.
    """

    body_bytes: int = 8 * 2**20
    flight_bytes: int = 64 * 2**20
    held_pairs: int = 10_000
    held_bytes: int = 2**30
    deadline_s: float = 600.0
    queue_s: float = 86_400.0
    remembered: int = 1_000_000
    remember_s: float = 86_400.0
    keep_days: int = 90
    body_s: float = 20.0
    connections: int = 512

    def __post_init__(self) -> None:
        within("limits.body_bytes", self.body_bytes, 1024, 64 * 2**20)
        within("limits.flight_bytes", self.flight_bytes, 2**20, 2**32)
        within("limits.held_pairs", self.held_pairs, 1, 1_000_000)
        within("limits.held_bytes", self.held_bytes, 2**20, 2**40)
        within("limits.deadline_s", self.deadline_s, 1, 86_400, unit="s")
        within("limits.queue_s", self.queue_s, 1, 2_592_000, unit="s")
        within("limits.remembered", self.remembered, 1000, 100_000_000)
        within("limits.remember_s", self.remember_s, self.deadline_s, 2_592_000, unit="s")
        within("limits.keep_days", self.keep_days, 1, 3660)
        within("limits.body_s", self.body_s, 1, 300, unit="s")
        within("limits.connections", self.connections, 1, 10_000)


@dataclass(frozen=True)
class Audited:
    """Who is asked in an audit.

    Attributes:
        endpoint: Name of an endpoint of the worker; "" if `model` is asked.
        model: "NAME" or "NAME@VERSION" of the worker's store; "" if `endpoint` is asked.
        surrogate: Model of the store for the maps; may be empty.
        method: Of the maps; empty for the worker's default.
        dataset: Id of a data set with masks, for other backgrounds and objects; may be empty.
    """

    endpoint: str = ""
    model: str = ""
    surrogate: str = ""
    method: str = ""
    dataset: str = ""

    def __post_init__(self) -> None:
        if bool(self.endpoint) == bool(self.model):
            raise InvalidArgument("audit: name an endpoint or a model, one of them", field="audit")


@dataclass(frozen=True)
class Service:
    """A service whose events are taken.

    Attributes:
        name: In status and reports.
        match: Attributes that an event must have, and their values.
        bodies: How requests and responses look: an endpoint of the operator's file, of which the address is not used.
        audited: Who is asked.
        design: Of the statistics; fixed beforehand.
        rate: Share of the pairs that are audited at random, 0..1.
        conditions: Any of which has a pair audited, too.
        label: Place of the predicted label or index in the response, where it holds no scores; None where it does.
        boxes: Place of the object's boxes in the request; None if there are none.
        mask: Place of the object's mask in the request, an image in base64; None if there is none.
        nominated: Whether regions that a map marks stand in where nobody says where the object is.
        run_length: Audited pairs until a false alert of this service, on average at least; 100..1e9.
        request: Type of the events of requests.
        response: Type of the events of responses.
    """

    name: str
    match: Mapping[str, str]
    bodies: Endpoint
    audited: Audited
    design: DatasetDesign
    rate: float = 0.01
    conditions: tuple[Condition, ...] = ()
    label: JsonPath | None = None
    boxes: JsonPath | None = None
    mask: JsonPath | None = None
    nominated: bool = False
    run_length: float = 10_000.0
    request: str = REQUEST
    response: str = RESPONSE

    def __post_init__(self) -> None:
        check_name(self.name)
        within("rate", self.rate, 0, 1)
        within("alert.run_length", self.run_length, 100, 1e9)
        within("margins.flip", self.design.margins.flip, 0.01, _MOST_MARGIN)
        within("margins.agreement", self.design.margins.agreement, 1 - _MOST_MARGIN, _MOST_MARGIN)
        if not self.match:
            raise InvalidArgument("match: missing; name the attributes of the service's events", field="match")
        if not self.rate and not self.conditions:
            raise InvalidArgument("rate: 0 without a condition audits nothing", field="rate")
        if self.boxes is not None and self.mask is not None:
            raise InvalidArgument("mask: comes beside boxes; give one of them", field="mask")
        if self.request == self.response:
            raise InvalidArgument("response: is the type of requests, too", field="response")
        self._check_bodies()

    def _check_bodies(self) -> None:
        how, endpoint = self.bodies.protocol, self.bodies
        if not endpoint.labels:
            raise InvalidArgument(f"bodies: {endpoint.who} has no labels", field="bodies")
        if isinstance(how, TorchServe) and how.handler != "image_classifier":
            raise InvalidArgument(
                f'bodies: {endpoint.who} has the handler {how.handler!r}; describe its bodies as kind = "http-json"',
                field="bodies",
            )
        if isinstance(how, HttpJson) and how.image == "multipart":
            raise InvalidArgument(f"bodies: {endpoint.who} takes forms, which are not read", field="bodies")
        if isinstance(how, Oip) and endpoint.resize is not None and self.audited.endpoint == endpoint.name:
            raise InvalidArgument(
                f"bodies: {endpoint.who} has `resize`, which would be done again to the tensors of the stream; "
                "register the service a second time without it",
                field="bodies",
            )
        if self.label is not None and any(each.needs_score for each in self.conditions):
            raise InvalidArgument("where: a score is not known where `label` is read", field="where")

    @property
    def needs_answer(self) -> bool:
        """Whether some condition is on the response."""
        return any(each.needs_answer for each in self.conditions)

    @property
    def detectors(self) -> tuple[Detector, Detector]:
        """Of backgrounds and of disagreement. Either alone needs twice the evidence, so that both keep `run_length`."""
        margins = self.design.margins
        return (
            Detector(BACKGROUND, margins.flip, -1.0, 2 * self.run_length),
            Detector(DISAGREEMENT, 1 - margins.agreement, 0.0, 2 * self.run_length),
        )

    def document(self) -> dict[str, Any]:
        """All that is fixed beforehand, as values of JSON's types."""
        return {
            "design": self.design.to_dict(),
            "audit": asdict(self.audited),
            "match": dict(sorted(self.match.items())),
            "types": [self.request, self.response],
            "read": {name: repr(getattr(self, name)) for name in ("label", "boxes", "mask")},
            "bodies_sha256": hashlib.sha256(repr(self._described()).encode()).hexdigest(),
            "labels_sha256": hashlib.sha256("\n".join(self.bodies.labels).encode()).hexdigest(),
            "rate": self.rate,
            "conditions": [each.told for each in self.conditions],
            "regions": "nominated" if self.nominated else "known",
            "run_length": self.run_length,
            "detectors": {each.name: {"margin": each.margin, "threshold": each.threshold} for each in self.detectors},
        }

    def _described(self) -> tuple[object, ...]:
        """How bodies are read, without addresses and secrets."""
        bodies = self.bodies
        return bodies.protocol, bodies.size, bodies.resize, bodies.interpolation

    def sha256(self) -> str:
        """Of `document` in canonical JSON (RFC 8785), in hex."""
        return hashlib.sha256(canonical(self.document())).hexdigest()


@dataclass(frozen=True)
class Notify:
    """Where alerts are sent.

    Attributes:
        url: http or https; never shown.
        headers: Sent along.
        timeout_s: Of one attempt, 0.1..60 s.
    """

    url: str = field(repr=False)
    headers: tuple[tuple[str, Secret], ...] = ()
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        within("notify.timeout_s", self.timeout_s, 0.1, 60, unit="s")
        one_of("notify.url", self.url.partition("://")[0], ("http", "https"))


@dataclass(frozen=True)
class SinkConfig:
    """The file.

    Attributes:
        services: In order; the first that matches an event takes it.
        worker: "host:port" of the worker; "" is the one of this machine.
        worker_token: For it; None is that of this machine's worker.
        worker_ca: PEM file; with it the worker is asked over TLS. "" is plain.
        audit_s: Seconds for one audit, 1..600.
        token: That senders must show; None lets everybody send.
        notify: Where alerts are sent; None for nowhere.
        limits: Bounds.
    """

    services: tuple[Service, ...]
    worker: str = ""
    worker_token: Secret | None = None
    worker_ca: str = ""
    audit_s: float = 120.0
    token: Secret | None = None
    notify: Notify | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        within("sink.audit_s", self.audit_s, 1, 600, unit="s")
        if not self.services:
            raise InvalidArgument("services: missing; describe a service as [services.NAME]", field="services")

    def service(self, name: str) -> Service | None:
        """By its name."""
        return next((each for each in self.services if each.name == name), None)
