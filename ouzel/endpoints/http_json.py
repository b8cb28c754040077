"""Services that take an image by POST and answer with JSON, as the operator's file describes them."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import numpy as np
import urllib3

from ouzel.endpoints import scores
from ouzel.endpoints.config import Endpoint
from ouzel.endpoints.encoded import encode
from ouzel.endpoints.protocols import HttpJson
from ouzel.endpoints.strict_json import read_json
from ouzel.endpoints.transport import Transport
from ouzel.errors import FailedPrecondition


class HttpJsonClient:
    """See `ouzel.endpoints.client.Client`.

    Args:
        endpoint: Of this kind.
        how: Its protocol.
    """

    batch = 1
    digest = ""

    def __init__(self, endpoint: Endpoint, how: HttpJson) -> None:
        self._endpoint = endpoint
        self._how = how
        self._transport = Transport(endpoint)
        self.labels = endpoint.labels
        self.version = how.version
        self._indices = {label: index for index, label in enumerate(endpoint.labels)}

    def ask(self, pictures: np.ndarray, stop: threading.Event) -> np.ndarray:
        """See `Client`."""
        body, kind = self._request(encode(pictures[0], self._how.input))
        answer = self._transport.ask("POST", self._endpoint.url, stop, body=body, headers={"Content-Type": kind})
        row = self._scores(read_json(answer, self._endpoint.who))
        return scores.probabilities(row[None], self._how.scores, self._endpoint.who, partial=self._how.partial)

    def close(self) -> None:
        """See `Client`."""
        self._transport.close()

    def _request(self, image: bytes) -> tuple[bytes, str]:
        """(body, its media type)."""
        how, kind = self._how, f"image/{self._how.input.format}"
        if how.image == "body":
            return image, kind
        if how.image == "multipart":
            file = (f"image.{how.input.format}", image, kind)
            return urllib3.encode_multipart_formdata({**how.body, how.form_field: file})
        text = how.prefix + base64.b64encode(image).decode()
        return json.dumps(how.place.put(how.body, text)).encode(), "application/json"

    def _scores(self, document: Any) -> np.ndarray:
        how, who = self._how, self._endpoint.who
        try:
            found = how.path.get(document)
        except LookupError:
            raise FailedPrecondition(f"{who}: the answer has nothing at {how.path} (output.path)") from None
        if how.form == "array":
            return scores.from_array(found, len(self.labels), who)
        if how.form == "mapping":
            if not isinstance(found, dict):
                raise FailedPrecondition(f"{who}: the answer has no JSON object of labels at {how.path} (output.path)")
            return scores.from_pairs(found.items(), self._indices, who, partial=how.partial)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise FailedPrecondition(f"{who}: the answer has no list of JSON objects at {how.path} (output.path)")
        pairs = [(entry.get(how.label_key), entry.get(how.score_key)) for entry in found]
        return scores.from_pairs(pairs, self._indices, who, partial=how.partial)
