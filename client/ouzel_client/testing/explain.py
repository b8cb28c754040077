"""Explanations of `testing.FakeServer`: invented, deterministic, in the form of real ones."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ouzel_client._optional import need_pillow
from ouzel_client.errors import InvalidArgument
from ouzel_client.testing.places import (
    CLASSIFICATION,
    DETECTION,
    SEGMENTATION,
    detected,
    detector_targets,
    region_of,
    segmented,
)
from ouzel_protos import classes, tensors
from ouzel_protos.methods import METHODS
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.ledger_pb2 import LedgerEntry
from ouzel_protos.v1.tensor_pb2 import Tensor


def invented_entry(kind: str, facts: Mapping[str, Any]) -> LedgerEntry:
    """An entry in the form of a real one, of a log that does not exist: its proof proves nothing."""
    entry = {"facts": facts, "kind": kind, "salted": {}, "time": "2026-01-01T00:00:00.000000Z", "version": 1}
    return LedgerEntry(
        index=0, entry=json.dumps(entry, separators=(",", ":"), sort_keys=True).encode(), salt=bytes(16), proof="fake\n"
    )


@dataclass(frozen=True)
class FakeModel:
    """A model whose logits are K, K - 1, ... 1, in the order of its K labels.

    Attributes:
        name: Its name.
        version: Its version.
        labels: Its labels.
        task: "classification", "segmentation" or "detection".
    """

    name: str
    version: str
    labels: tuple[str, ...]
    task: str = CLASSIFICATION

    def info(self) -> pb.ModelInfo:
        """What an answer says of the model."""
        digest = "sha256:" + "0" * 64
        version = self.version or "1.0"
        return pb.ModelInfo(name=self.name, version=version, weights_digest=digest, precision="exact", task=self.task)

    def explain(self, parts: Mapping[str, bytes], size: tuple[int, int]) -> pb.Explanation:
        """Answer a request, as the service would. An error is a part of the answer.

        Args:
            parts: The parts of the request by name.
            size: (height, width) of the maps.
        """
        options = pb.ExplainOptions.FromString(parts["options"])
        answer = pb.Explanation(model=self.info(), request_id=options.request_id)
        answer.timing.total_ms = answer.timing.compute_ms = answer.timing.batch_size = 1
        try:
            width, height = _dimensions(parts)
            self._fill(answer, options, (width, height), size)
        except InvalidArgument as error:
            answer.Clear()
            answer.MergeFrom(pb.Explanation(model=self.info(), request_id=options.request_id))
            answer.error.CopyFrom(pb.Error(code=pb.Error.INVALID_ARGUMENT, message=error.message, field=error.field))
        return answer

    def _fill(
        self, answer: pb.Explanation, options: pb.ExplainOptions, picture: tuple[int, int], size: tuple[int, int]
    ) -> None:
        logits = np.arange(len(self.labels), 0, -1, dtype=np.float32)
        scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        if len(logits) == 1:
            scores = 1 / (1 + np.exp(-logits))
        answer.view.CopyFrom(
            pb.View(image_width=picture[0], image_height=picture[1], right=picture[0], bottom=picture[1])
        )
        maps = [
            one
            for n, request in enumerate(options.saliency)
            for one in self._maps(request, f"saliency[{n}]", picture, size)
        ]
        if options.estimate_only:
            response = sum(len(one.values.data) for one in maps)
            answer.estimate.CopyFrom(
                pb.Estimate(passes=1 + len(maps), response_bytes=response, response_limit_bytes=6_553_500)
            )
            return
        if self.task == DETECTION:
            answer.detected.CopyFrom(detected(self.labels, options, picture))
        elif self.task == SEGMENTATION:
            answer.segmentation.CopyFrom(segmented(self.labels, options, picture, size))
        else:
            for index in range(min(options.top_k or 5, len(self.labels))):
                answer.scores.add(index=index, label=self.labels[index], probability=scores[index], logit=logits[index])
        if options.when.HasField("score_below") and not scores[0] < options.when.score_below:
            answer.skipped = f"when.score_below: the score {scores[0]:.4f} is not below {options.when.score_below:g}"
        else:
            answer.saliency.extend(maps)
        if options.record:
            answer.ledger.CopyFrom(invented_entry("explanation", {"request_id": options.request_id}))

    def _maps(
        self, request: pb.SaliencyRequest, path: str, picture: tuple[int, int], size: tuple[int, int]
    ) -> list[pb.SaliencyMap]:
        methods: tuple[str, ...] = METHODS
        if self.task == DETECTION:
            methods = (*(name for name in METHODS if name != "rise"), "d_rise")
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise InvalidArgument(f"{path}.method: {request.method!r} is not one of {allowed}", field=f"{path}.method")
        _check_faithfulness(request, f"{path}.faithfulness")
        shape = (picture[1], picture[0]) if request.size == pb.ORIGINAL_IMAGE else size
        channels = 3 if request.reduction == pb.NONE else 0
        dtype = np.float16 if request.dtype == Tensor.FLOAT16 else np.float32
        return [
            _map(request, target, _values(f"{request.method} {target.label}", shape, channels).astype(dtype))
            for target in self._targets(request, f"{path}.target", picture)
        ]

    def _targets(self, request: pb.SaliencyRequest, path: str, picture: tuple[int, int]) -> list[pb.ResolvedTarget]:
        if self.task == DETECTION:
            return detector_targets(request, self.labels, picture, self._index, path)
        resolved = self._classes(request.target, path)
        if self.task == SEGMENTATION:
            resolved = [region_of(request.target, each, self.labels, picture, path) for each in resolved]
        return resolved

    def _classes(self, target: pb.Target, path: str) -> list[pb.ResolvedTarget]:
        kind = target.WhichOneof("kind")
        if target.HasField("region") and self.task == CLASSIFICATION:
            raise InvalidArgument(
                f"{path}.region: {self.name!r} is a classifier, whose answer has no places", field=f"{path}.region"
            )
        if kind == "top":
            return [self._resolved(index) for index in range(min(target.top, len(self.labels)))]
        if kind == "contrast":
            a, b = self._index(target.contrast.a, f"{path}.a"), self._index(target.contrast.b, f"{path}.b")
            resolved = self._resolved(a)
            resolved.minus_index, resolved.minus_label = b, self.labels[b]
            return [resolved]
        if kind in ("index", "label"):
            return [self._resolved(self._index(target, path))]
        return [self._resolved(target.rank)]

    def _index(self, ref: pb.ClassRef | pb.Target, path: str) -> int:
        if ref.HasField("label"):
            readings = classes.readings(self.labels, ref.label, len(self.labels))
            indices = {index for meant in readings.values() for index in meant}
            if len(indices) != 1:
                what = f"can be read as {' or '.join(readings)}" if indices else f"is not a label of {self.name}"
                raise InvalidArgument(f"{path}: {ref.label!r} {what}", field=path)
            return indices.pop()
        if not 0 <= ref.index < len(self.labels):
            raise InvalidArgument(f"{path}: {ref.index} is not in [0, {len(self.labels)})", field=path)
        return ref.index

    def _resolved(self, index: int) -> pb.ResolvedTarget:
        return pb.ResolvedTarget(index=index, label=self.labels[index])


def _check_faithfulness(request: pb.SaliencyRequest, path: str) -> None:
    if not request.faithfulness:
        return
    if not 2 <= request.faithfulness <= 64:
        raise InvalidArgument(f"{path}: {request.faithfulness} is not in [2, 64]", field=path)
    if request.reduction == pb.NONE or request.target.HasField("contrast"):
        raise InvalidArgument(f"{path}: is of maps of one channel for one class", field=path)


def _map(request: pb.SaliencyRequest, target: pb.ResolvedTarget, values: npt.NDArray[Any]) -> pb.SaliencyMap:
    return pb.SaliencyMap(
        method=request.method,
        target=target,
        values=tensors.encode(values),
        minimum=float(values.min()),
        maximum=float(values.max()),
        reduction=request.reduction or pb.MAX_ABS,
        size=request.size or pb.MODEL_INPUT,
        rectified=7 if request.method == "guided" else 0,
        caveats=["fails a sanity check"] if request.method == "guided" else [],
        parameters=request.parameters,
        measures={"deletion": 0.25, "insertion": 0.75} if request.faithfulness else {},
    )


def _values(seed: str, shape: tuple[int, int], channels: int) -> npt.NDArray[np.floating[Any]]:
    """A spot at a place that depends on the seed: (H, W), or (C, H, W) of equal planes, in [0, 1]."""
    number = zlib.crc32(seed.encode())
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    blob = np.exp(-8 * ((x - number % 256 / 255) ** 2 + (y - number // 256 % 256 / 255) ** 2))
    return np.repeat(blob[None], channels, axis=0) if channels else blob


def _dimensions(parts: Mapping[str, bytes]) -> tuple[int, int]:
    """(width, height) of the upload. Raises InvalidArgument if it is not a picture."""
    if "tensor" in parts:
        array = tensors.decode(Tensor.FromString(parts["tensor"]))
        height, width = array.shape[:2] if array.dtype == np.uint8 else array.shape[-2:]
        return int(width), int(height)
    image, ops = need_pillow("a fake server that is sent pictures")
    try:
        with image.open(io.BytesIO(parts["image"])) as opened:
            width, height = ops.exif_transpose(opened).size
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidArgument(f"image: is broken ({error})", field="image") from None
    return int(width), int(height)
