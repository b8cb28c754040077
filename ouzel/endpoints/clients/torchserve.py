"""Models of a TorchServe: those of its own image classifier, and those of another Ouzel."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import numpy as np

from ouzel.endpoints.clients import scores
from ouzel.endpoints.clients.encoded import encode
from ouzel.endpoints.clients.strict_json import read_json
from ouzel.endpoints.description.config import MOST_LABELS, Endpoint
from ouzel.endpoints.description.protocols import TorchServe
from ouzel.endpoints.description.urls import with_path
from ouzel.endpoints.transport.http import Answer, Transport
from ouzel.errors import FailedPrecondition
from ouzel_protos.text import is_label, is_line, nfc

_ALL = 2**31 - 1  # scores that no model has: the refusal says how many it has
_CLASSES = re.compile(r"top_k: \d+ is not within 0\.\.(\d{1,6})")


class TorchServeClient:
    """See `ouzel.endpoints.clients.client.Client`.

    Args:
        endpoint: Of this kind.
        how: Its protocol.

    Raises:
        OuzelError: The labels are not known, and the service does not tell them.
    """

    batch = 1

    def __init__(self, endpoint: Endpoint, how: TorchServe) -> None:
        self._endpoint = endpoint
        self._how = how
        self._who = endpoint.who
        version = f"/{how.version}" if how.version else ""
        self._url = with_path(endpoint.url, f"/predictions/{how.model}{version}")
        self._transport = Transport(endpoint)
        self.labels = endpoint.labels
        self.version = how.version
        self.digest = ""
        self._indices = {label: index for index, label in enumerate(endpoint.labels)}
        if how.handler == "ouzel":
            try:
                self._introduce()
            except BaseException:
                self._transport.close()
                raise

    def ask(self, pictures: np.ndarray, stop: threading.Event) -> np.ndarray:
        """See `Client`."""
        if self._how.handler == "ouzel":
            row = self._of_ouzel(self._document(pictures[0], stop, len(self.labels)))
            return scores.probabilities(row[None], "probabilities", self._who)
        document = self._document(pictures[0], stop)
        if not isinstance(document, dict):
            raise FailedPrecondition(f"{self._who}: the answer is not a JSON object of labels and probabilities")
        if {"model", "scores"} <= document.keys():
            raise FailedPrecondition(f'{self._who}: another Ouzel answers; its handler is to be stated as "ouzel"')
        row = scores.from_pairs(document.items(), self._indices, self._who, partial=True)
        return scores.probabilities(row[None], "probabilities", self._who, partial=True)

    def close(self) -> None:
        """See `Client`."""
        self._transport.close()

    def _introduce(self) -> None:
        """Learns from the first answer which model, of which classes, this is."""
        grey, stop = np.full((64, 64, 3), 128, np.uint8), threading.Event()
        classes = len(self.labels)
        if not classes:
            answer = self._post(grey, stop, _ALL)
            told = _CLASSES.search(_message(read_json(answer, self._who))) if answer.status == 400 else None
            classes = int(told[1]) if told else 0
            if not 2 <= classes <= MOST_LABELS:
                raise FailedPrecondition(
                    f"{self._who}: does not answer as a classifier of another Ouzel, and so does not say its labels; "
                    f"describe this endpoint in the file of --audit-endpoints"
                )
        document = self._document(grey, stop, classes)
        model = self._model(document)
        name, version, digest = (model.get(key) for key in ("name", "version", "weights_digest"))
        for text in (name, version, digest):
            if not isinstance(text, str) or len(text) > 200 or not is_line(text):
                raise FailedPrecondition(f"{self._who}: the answer does not say which model it is of")
        if name != self._how.model or (self._how.version and version != self._how.version):
            raise FailedPrecondition(f"{self._who}: another model than {self._how.model!r} answers, or another version")
        self.version, self.digest = str(version), str(digest)
        if not self.labels:
            entries = self._entries(document, classes)
            ordered = sorted(entries, key=lambda entry: int(entry["index"]))
            self.labels = tuple(str(entry.get("label")) for entry in ordered)
            if not all(map(is_label, self.labels)):
                raise FailedPrecondition(f"{self._who}: answered with labels that cannot be shown")
        scores.probabilities(self._of_ouzel(document)[None], "probabilities", self._who)

    def _of_ouzel(self, document: Any) -> np.ndarray:
        """(K,) probabilities, once the answer is seen to be of the same model and classes as before."""
        model = self._model(document)
        if (model.get("version"), model.get("weights_digest")) != (self.version, self.digest):
            raise FailedPrecondition(f"{self._who}: the model was replaced while it was asked")
        entries = self._entries(document, len(self.labels))
        row: list[Any] = [None] * len(self.labels)
        for entry in entries:
            index = entry["index"]
            if nfc(str(entry.get("label"))) != nfc(self.labels[index]):
                raise FailedPrecondition(
                    f"{self._who}: labels[{index}] is {self.labels[index][:80]!r} here, and another at the service"
                )
            row[index] = entry.get("probability")
        return scores.from_array(row, len(self.labels), self._who)

    def _entries(self, document: Any, classes: int) -> list[dict[str, Any]]:
        """The scores of an answer: one for each class."""
        entries = document.get("scores")
        indices = [entry.get("index") if isinstance(entry, dict) else None for entry in entries or ()]
        whole = [index for index in indices if type(index) is int]
        if not isinstance(entries, list) or len(whole) < len(indices) or sorted(whole) != list(range(classes)):
            raise FailedPrecondition(f"{self._who}: the answer does not hold one score for each of {classes} classes")
        return entries

    def _model(self, document: Any) -> dict[str, Any]:
        model = document.get("model") if isinstance(document, dict) else None
        if not isinstance(model, dict):
            raise FailedPrecondition(f"{self._who}: the answer is not that of an Ouzel's handler")
        return model

    def _document(self, picture: np.ndarray, stop: threading.Event, top_k: int = 0) -> Any:
        answer = self._post(picture, stop, top_k)
        if answer.status != 200:
            raise FailedPrecondition(f"{self._who}: answered {answer.status}: it does not take the request")
        return read_json(answer, self._who)

    def _post(self, picture: np.ndarray, stop: threading.Event, top_k: int) -> Answer:
        headers = {"Content-Type": f"image/{self._how.input.format}"}
        if top_k:
            headers["X-Ouzel-Options"] = json.dumps({"top_k": top_k})
        answer = self._transport.ask(
            "POST", self._url, stop, body=encode(picture, self._how.input), headers=headers, also=400
        )
        if answer.status == 400 and _no_token(read_json(answer, self._who)):
            raise FailedPrecondition(f"{self._who}: answered 400: it does not accept the operator's credentials")
        return answer


def _no_token(document: Any) -> bool:
    """Whether TorchServe refuses a request for its token: it does so with status 400."""
    return isinstance(document, dict) and document.get("type") == "InvalidKeyException"


def _message(document: Any) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else ""
