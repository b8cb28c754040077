"""Explains batches of requests of one model: each row on its own, the computing together."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ouzel import gpus
from ouzel.explain import encode, recording
from ouzel.explain.answering import Answering
from ouzel.explain.device_decoder import decoder_of
from ouzel.explain.limits import Limits
from ouzel.explain.memory import give_back
from ouzel.explain.requests import RawRequest, Reply
from ouzel.explain.served import Served
from ouzel.models import Model
from ouzel.precision_names import EXACT, VARIABLE, Precision, check_precision
from ouzel.saliency import Explainer
from ouzel.saliency.boxes import DetectionExplainer
from ouzel.task_names import DETECTION
from ouzel_protos import tensors

logger = logging.getLogger(__name__)
FORMATS, WARM_UP_ROWS = "OUZEL_MEMORY_FORMATS", "OUZEL_WARM_UP_ROWS"


class ExplainService:
    """Answers requests for one model. Threads may share it.

    $OUZEL_MEMORY_FORMATS is the folder in which the faster memory format is remembered, so that the next process need
    not measure it. $OUZEL_PRECISION is what to compute in, whatever the model's archive says. $OUZEL_DECODE is where
    images are decoded, see `ouzel.explain.device_decoder`.

    Args:
        model: That answers.
        limits: Of requests.
        threads: How many images are decoded at a time; None is one per processor.
        record: Makes entries of a log; None keeps none.
        precision: What to compute in; None is that of $OUZEL_PRECISION, else the model's.

    Raises:
        InvalidArgument: There is no such precision.
    """

    def __init__(
        self,
        model: Model,
        limits: Limits | None = None,
        *,
        threads: int | None = None,
        record: recording.Record | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.model, self.limits = model, limits or Limits()
        self.explainer = engine_of(model, self.limits, precision)
        decoder = decoder_of(model.preprocessing, self.explainer.device, threads or os.cpu_count() or 1)
        self._served = Served(model, self.explainer, encode.model_info(model, self.explainer), decoder=decoder)
        self._answering = Answering(self.limits, threads, record)
        self._warm: set[int] = set()  # sizes of batches

    def warm_up(self, rows: int) -> None:
        """Answer a made-up batch with every kind of backward pass, so that the first caller does not wait for it.

        $OUZEL_WARM_UP_ROWS bounds the batch, where many models start and larger ones can wait until they are asked for.
        """
        warm_up(self.model, self.answer, rows, self._warm)

    def answer(self, requests: Sequence[RawRequest]) -> list[Reply]:
        """Answer a batch.

        Args:
            requests: One or more.

        Returns:
            One reply per request, in order. What a request holds never raises: each error is that row's answer.
        """
        return self._answering.answer([(self._served, request) for request in requests])


def engine_of(model: Model, limits: Limits, precision: Precision | None = None) -> Explainer | DetectionExplainer:
    """What explains a model that is served, whatever its task, as `explainer_of`. Detectors always compute exactly."""
    if model.task != DETECTION:
        return explainer_of(model, limits, precision)
    known = os.environ.get(FORMATS)
    if precision_of(model.precision if precision is None else precision) != EXACT:
        logger.warning("computes exactly: detectors have no other precision")
    return DetectionExplainer(model, memory_bytes=limits.memory_bytes, known_formats=Path(known) if known else None)


def explainer_of(model: Model, limits: Limits, precision: Precision | None = None, *, graphs: bool = True) -> Explainer:
    """What explains a model that is served: by the environment, as `ExplainService`. graphs: as of `Explainer`."""
    if precision is None:
        precision = precision_of(model.precision)
    known = os.environ.get(FORMATS)
    explainer = Explainer(
        model,
        memory_bytes=limits.memory_bytes,
        known_formats=Path(known) if known else None,
        precision=precision,
        graphs=graphs,
    )
    if explainer.device.type == "cpu" and os.environ.get(gpus.SHARED) and torch.cuda.is_available():
        logger.warning("computes on the processor although there are GPUs: add this model to the store again")
    if (deviation := explainer.deviation) is not None:
        logger.info("computes in %s; measured against exact: %s", explainer.precision, deviation)
    return explainer


def precision_of(own: Precision) -> Precision:
    """What a model is served in: that of $OUZEL_PRECISION, else its own. Raises InvalidArgument."""
    return check_precision(VARIABLE, os.environ.get(VARIABLE) or own)


def warm_up(model: Model, answer: Callable[[Sequence[RawRequest]], object], rows: int, warm: set[int]) -> None:
    """See `ExplainService.warm_up`. warm: sizes of batches that were answered before; this one is added."""
    rows = min(rows, int(os.environ.get(WARM_UP_ROWS) or rows))
    if rows in warm:
        return
    warm.add(rows)
    asked = b'{"saliency": ["gradient", "grad_cam"]}'
    if model.task == DETECTION:  # in grey nothing may be found, whose gradient could be asked for
        asked = b'{"saliency": [{"method": "d_rise", "masks": 1, "target": {"class": 1, "box": [0, 0, 16, 16]}}]}'
    if model.preprocessing.takes_images:
        file = io.BytesIO()
        Image.new("RGB", (256, 256), "gray").save(file, "JPEG")
        request = RawRequest(image=file.getvalue(), options=asked)
    else:
        zeros = tensors.encode(np.zeros(model.input_shape, np.float32))
        request = RawRequest(tensor=zeros.SerializeToString(), options=asked)
    answer([request] * rows)
    give_back()
