"""Services that take an image by POST and answer with JSON, as the operator's file describes them."""

from __future__ import annotations

import base64
import json
import threading

import numpy as np
import urllib3

from ouzel.endpoints.clients import scores
from ouzel.endpoints.clients.encoded import encode
from ouzel.endpoints.clients.strict_json import read_json
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.protocols import HttpJson
from ouzel.endpoints.transport.http import Transport


class HttpJsonClient:
    """See `ouzel.endpoints.clients.client.Client`.

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

    def ask(self, pictures: np.ndarray, stop: threading.Event) -> np.ndarray:
        """See `Client`."""
        body, kind = self._request(encode(pictures[0], self._how.input))
        answer = self._transport.ask("POST", self._endpoint.url, stop, body=body, headers={"Content-Type": kind})
        document = read_json(answer, self._endpoint.who)
        return scores.from_document(document, self._how, self.labels, self._endpoint.who)[None]

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
