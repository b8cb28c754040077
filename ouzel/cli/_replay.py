"""Computing again what an entry of the log says, and comparing."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.ledger import Replay
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.precision_names import EXACT, check_precision

ABSOLUTE, RELATIVE = 1e-4, 1e-3  # of figures; below the first, nothing is a difference
# Of a map's norm and means: a ReLU whose input is almost 0 falls to one side or the other with the order of a sum.
RELATIVE_OF_MAPS = 2e-2
_SMALL = 1e-6  # of figures of maps, which may be small throughout
_BITS = "sha256"  # of values that are the same to the last bit, or only within the tolerance


@dataclass(frozen=True)
class Difference:
    """A value that came out otherwise.

    Attributes:
        path: Where in the facts.
        recorded: What the entry says.
        computed: What came out now.
    """

    path: str
    recorded: Any
    computed: Any


def computed_again(asked: Replay, image: bytes, store: Path, *, state: Path, mask: Path | None, owner: str) -> Any:
    """The facts of an entry, computed again.

    Args:
        asked: What the entry says.
        image: The image.
        store: The model store.
        state: State folder of the worker, whose data sets an audit may need.
        mask: The mask that the audit was given.
        owner: Whose data set it was.

    Raises:
        FailedPrecondition: The entry does not say enough, or is about another service; the store has other weights.
        OuzelError: The model is missing, or an input is not what it was.
    """
    if asked.kind not in ("explanation", "audit"):
        raise FailedPrecondition(f"an entry of the kind {asked.kind!r} holds nothing that can be computed again")
    request = asked.facts.get("options" if asked.kind == "explanation" else "request")
    if not isinstance(request, Mapping) or "sha256" in request or "left_out" in request:
        raise FailedPrecondition("the entry does not hold the request, which was too long or of another form")
    if asked.kind == "explanation":
        return _explanation(asked.facts, image, store)
    return _audit(asked.facts, image, store, state=state, mask=mask, owner=owner)


def differences(recorded: Any, computed: Any, path: str = "") -> Iterator[Difference]:
    """What differs by more than the tolerances above.

    Args:
        recorded: JSON.
        computed: JSON.
        path: Where in the facts both are.
    """
    if isinstance(recorded, Mapping) and isinstance(computed, Mapping):
        for name in sorted(recorded.keys() | computed.keys()):
            if name != _BITS:
                yield from differences(recorded.get(name), computed.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(recorded, list) and isinstance(computed, list) and len(recorded) == len(computed):
        for number, (one, other) in enumerate(zip(recorded, computed, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif _is_number(recorded) and _is_number(computed):
        relative, absolute = (RELATIVE_OF_MAPS, _SMALL) if path.startswith("maps[") else (RELATIVE, ABSOLUTE)
        if not math.isclose(recorded, computed, rel_tol=relative, abs_tol=absolute):
            yield Difference(path, recorded, computed)
    elif recorded != computed:
        yield Difference(path, recorded, computed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _explanation(facts: Mapping[str, Any], image: bytes, store: Path) -> Any:
    from ouzel import models
    from ouzel.explain import ExplainService, RawRequest, recording
    from ouzel_protos.v1 import explain_pb2 as pb

    file = _file(facts["model"], store)
    options = json_format.ParseDict(dict(facts["options"]), pb.ExplainOptions())
    asked = options.SerializeToString()
    is_image = facts["input"] == "image"
    request = RawRequest(image=image, options=asked) if is_image else RawRequest(tensor=image, options=asked)
    precision = check_precision("precision", facts["model"].get("precision", EXACT))
    (reply,) = ExplainService(models.load(file.path), precision=precision).answer([request])
    if reply.envelope.HasField("error"):
        raise FailedPrecondition(f"the request is refused now: {reply.envelope.error.message}")
    reply.envelope.model.name, reply.envelope.model.version = facts["model"]["name"], facts["model"]["version"]
    return recording.facts(options, reply.envelope, facts["input"])


def _audit(facts: Mapping[str, Any], image: bytes, store: Path, *, state: Path, mask: Path | None, owner: str) -> Any:
    from ouzel.worker.api import audit_entries
    from ouzel.worker.auditing.auditor import Auditor, Caller
    from ouzel.worker.auditing.task import Archive, ResidentOptions, Task
    from ouzel_protos.v1 import audit_pb2 as pb

    if facts["source"]["kind"] != "model":
        raise FailedPrecondition("the entry is about another service's model, which nobody here can compute again")
    if (facts["object"]["source"] == "mask") != (mask is not None):
        raise FailedPrecondition("--mask: give the mask that the audit was given, and none if it was given none")
    request = json_format.ParseDict(dict(facts["request"]), pb.AuditPredictionRequest())
    request.image, request.mask_file = image, b"" if mask is None else mask.read_bytes()
    task = Task(owner, _archive(_file(facts["source"], store)), None)
    if request.surrogate:
        task = Task(owner, task.model, _archive(ModelFiles(store).file(request.surrogate)))
    assert isinstance(task.model, Archive)
    auditor = Auditor(ResidentOptions(state / "jobs" / "datasets", state / "memory-formats"))
    nobody = Caller(threading.Event(), lambda _: None, lambda _: pb.ReportedAnswer())
    return audit_entries.facts(request, auditor.audit(task, request, nobody))


def _file(model: Mapping[str, Any], store: Path) -> ModelFile:
    name = f"{model['name']}@{model['version']}" if model["version"] else model["name"]
    try:
        file = ModelFiles(store).file(name)
    except OuzelError:
        file = ModelFiles(store).file(model["name"])  # an operator's archive has no version in its file's name
    if file.digest != model["digest"]:
        raise FailedPrecondition(f"{name} has other weights in {store} ({file.digest}) than then ({model['digest']})")
    return file


def _archive(file: ModelFile) -> Any:
    from ouzel.worker.auditing.task import Archive

    return Archive(str(file.path.absolute()), file.digest, file.path.stat().st_mtime_ns)
