"""The Open Inference Protocol over REST, with tensors as JSON or by the extension for binary tensors."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import numpy as np

from ouzel.endpoints.clients import oip, scores
from ouzel.endpoints.clients.strict_json import read_json
from ouzel.endpoints.clients.tensors import tensor
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.protocols import Oip
from ouzel.endpoints.description.urls import with_path
from ouzel.endpoints.transport.http import Answer, Transport
from ouzel.errors import FailedPrecondition

_JSON_LENGTH = "Inference-Header-Content-Length"


class OipRestClient:
    """See `ouzel.endpoints.clients.client.Client`.

    Args:
        endpoint: Of this kind.
        how: Its protocol.

    Raises:
        OuzelError: The service does not describe the model, or not as the operator does.
    """

    digest = ""

    def __init__(self, endpoint: Endpoint, how: Oip) -> None:
        self._endpoint = endpoint
        self._how = how
        self._who = endpoint.who
        version = f"/versions/{how.version}" if how.version else ""
        self._path = f"/v2/models/{how.model}{version}"
        self._transport = Transport(endpoint)
        self.labels = endpoint.labels
        try:
            self._plan = oip.make_plan(endpoint, how, self._metadata())
        except BaseException:
            self._transport.close()
            raise
        self._check = oip.AnswerCheck(endpoint, self._plan)
        self.version, self.batch = self._plan.version, self._plan.batch

    def ask(self, pictures: np.ndarray, stop: threading.Event) -> np.ndarray:
        """See `Client`."""
        identity = uuid.uuid4().hex  # some servers fail without one
        body, headers = self._request(identity, tensor(pictures, self._how.input))
        url = with_path(self._endpoint.url, f"{self._path}/infer")
        answer = self._transport.ask("POST", url, stop, body=body, headers=headers)
        return oip.finished(self._scores(identity, answer, len(pictures)), self._how, self._who)

    def close(self) -> None:
        """See `Client`."""
        self._transport.close()

    def _request(self, identity: str, values: np.ndarray) -> tuple[bytes, dict[str, str]]:
        """(body, headers)."""
        given: dict[str, Any] = {
            "name": self._plan.input,
            "shape": list(values.shape),
            "datatype": self._how.input.datatype,
        }
        wanted: dict[str, Any] = {"name": self._plan.output}
        document = {"id": identity, "inputs": [given], "outputs": [wanted]}
        if self._how.transfer == "json":
            given["data"] = values.ravel().tolist()
            body = json.dumps(document, separators=(",", ":")).encode()
            return body, {"Content-Type": "application/json"}
        raw = values.tobytes()
        given["parameters"] = {"binary_data_size": len(raw)}
        wanted["parameters"] = {"binary_data": True}
        head = json.dumps(document).encode()
        return head + raw, {"Content-Type": "application/octet-stream", _JSON_LENGTH: str(len(head))}

    def _scores(self, identity: str, answer: Answer, count: int) -> np.ndarray:
        head, rest = self._split(answer)
        document = read_json(head, self._who)
        output, offset = self._output(document)
        shape, datatype = output.get("shape"), output.get("datatype")
        if not isinstance(shape, list) or not isinstance(datatype, str):
            raise FailedPrecondition(f"{self._who}: the answer does not state shape and datatype of its scores")
        answered, *model = (str(document.get(key) or "") for key in ("id", "model_name", "model_version"))
        self._check((identity, answered), (model[0], model[1]), shape, count)
        classes = len(self.labels)
        size = oip.binary_size(output)
        if size is not None:
            return oip.from_bytes(rest[offset : offset + size], datatype, count, classes, self._who)
        return scores.from_array(oip.flat(output.get("data")), count * classes, self._who).reshape(count, classes)

    def _split(self, answer: Answer) -> tuple[Answer, bytes]:
        """The JSON of an answer, and the bytes of its tensors behind it."""
        text = answer.headers.get(_JSON_LENGTH.lower())
        if text is None:
            return answer, b""
        length = int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else -1
        if not 0 <= length <= len(answer.body):
            raise FailedPrecondition(f"{self._who}: the header {_JSON_LENGTH} does not fit the answer")
        return Answer(answer.status, answer.headers, answer.body[:length]), answer.body[length:]

    def _output(self, document: Any) -> tuple[dict[str, Any], int]:
        """The output that was asked for, and where its bytes begin: after those of the outputs before it."""
        outputs = document.get("outputs") if isinstance(document, dict) else None
        if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
            raise FailedPrecondition(f"{self._who}: the answer has no list of outputs")
        offset = 0
        for output in outputs:
            if output.get("name") == self._plan.output:
                return output, offset
            offset += oip.binary_size(output) or 0
        raise FailedPrecondition(f"{self._who}: the answer has no output {self._plan.output[:80]!r}")

    def _metadata(self) -> oip.Metadata:
        url = with_path(self._endpoint.url, self._path)
        document = read_json(self._transport.ask("GET", url, threading.Event()), self._who)
        try:
            return oip.Metadata(
                name=_text(document["name"]),
                versions=tuple(_text(each) for each in document.get("versions") or ()),
                inputs=tuple(_spec(each) for each in document.get("inputs") or ()),
                outputs=tuple(_spec(each) for each in document.get("outputs") or ()),
            )
        except (LookupError, TypeError, ValueError, AttributeError):
            raise FailedPrecondition(f"{self._who}: does not describe the model as the protocol says") from None


def _spec(document: Any) -> oip.TensorSpec:
    shape = [int(size) for size in document["shape"]]
    return oip.TensorSpec(_text(document["name"]), _text(document["datatype"]), tuple(shape))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise TypeError("not a text")
    return value
