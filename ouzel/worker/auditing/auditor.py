"""One audit, in the process that stays: from the request to the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import Message

from ouzel.audit import (
    AnswerMaps,
    Maps,
    ModelMaps,
    ModelPredictor,
    Pool,
    Predictor,
    Source,
    audit_prediction,
    most_pictures,
)
from ouzel.audit.cost import changed_pictures
from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.images import original_size
from ouzel.names import label_index
from ouzel.worker.auditing import answers, requests, scenes, sources
from ouzel.worker.auditing.asked import AT_A_TIME, Asked, AskedMaps, CallerPredictor, check
from ouzel.worker.auditing.files import further_files
from ouzel.worker.auditing.known_models import KnownModels
from ouzel.worker.auditing.task import ResidentOptions, Task
from ouzel.worker.datasets.store import Datasets
from ouzel_protos import tensors
from ouzel_protos.v1 import audit_pb2 as pb

MOST_PICTURES = 4096  # of one audit
MOST_BYTES = 256 * 2**20  # of its changed pictures


@dataclass(frozen=True)
class Caller:
    """Who waits for an audit.

    Attributes:
        given_up: Set when nobody waits any more.
        tell: Sends a plan.
        ask: Sends a question, and returns the answer; raises DeadlineExceeded if none comes.
    """

    given_up: threading.Event
    tell: Callable[[Message], None]
    ask: Callable[[pb.ReportedQuestion], pb.ReportedAnswer]


class Auditor:
    """Runs audits. Threads may share it; what computes takes turns.

    Args:
        options: Of the process.
    """

    def __init__(self, options: ResidentOptions) -> None:
        self._options = options
        self._turn = threading.Lock()
        self._models = KnownModels(options.models, options.formats, self._turn)
        self._datasets = Datasets(options.uploads, cache=options.cache)
        self._endpoints: dict[str, Predictor] = {}
        self._opening = threading.Lock()

    def audit(self, task: Task, request: pb.AuditPredictionRequest, caller: Caller) -> pb.PredictionAudit:
        """Audits a prediction of a model or an endpoint.

        Args:
            task: What the service has found out.
            request: The request.
            caller: Who waits.

        Raises:
            OuzelError: The request is wrong, or its source does not answer.
        """
        if task.model is not None:
            loaded = self._models.get(task.model, "model")
            predictor: Predictor = Asked(ModelPredictor(loaded.model, loaded.explainer), caller.given_up, self._turn)
        else:
            predictor = Asked(self._endpoint(request.endpoint), caller.given_up)
        return self._run(task, request, predictor, caller)

    def audit_reported(self, task: Task, start: pb.ReportedStart, caller: Caller) -> pb.PredictionAudit:
        """Audits a prediction of the caller's own function.

        Args:
            task: What the service has found out.
            start: The request, and what the caller says of the function.
            caller: Who waits and answers.

        Raises:
            OuzelError: The request is wrong, or an answer cannot be used.
        """
        asked = 0

        def ask(pictures: np.ndarray) -> np.ndarray:
            nonlocal asked
            asked += 1
            answered = caller.ask(pb.ReportedQuestion(number=asked, pictures=tensors.encode(pictures)))
            try:
                return tensors.decode(answered.scores)
            except ValueError as error:
                raise InvalidArgument(f"answer.scores: {error}", field="answer.scores") from None

        source = Source("callable", start.name or "predict", start.version)
        answering = CallerPredictor(ask, source, tuple(start.labels), requests.caller_view(start))
        return self._run(task, start.request, Asked(answering, caller.given_up), caller, plan=True)

    def _run(
        self, task: Task, request: pb.AuditPredictionRequest, predictor: Predictor, caller: Caller, plan: bool = False
    ) -> pb.PredictionAudit:
        try:
            return self._answer(task, request, predictor, caller, plan)
        except OuzelError as error:
            raise requests.renamed(error) from error

    def _answer(
        self, task: Task, request: pb.AuditPredictionRequest, predictor: Predictor, caller: Caller, plan: bool
    ) -> pb.PredictionAudit:
        options = requests.options(request.options)
        image = requests.image(request, predictor.view)
        size = original_size(image)
        claim = requests.claim(request, *size)
        claimed = predictor.labels[label_index(predictor.labels, claim.label)]
        pool = Pool()
        if request.dataset:
            entries = scenes.candidates(self._datasets, task.owner, request.dataset)
            pool = scenes.draw(
                self._datasets, task.owner, entries, image=request.image, label=claimed, count=options.scenes,
                seed=options.seed, view=predictor.view,
            )  # fmt: skip
        maps, surrogate = self._maps(task, request, predictor, caller)
        pictures = most_pictures(options, scenes=len(pool.scenes), by_answers=isinstance(maps, AnswerMaps))
        if pictures > MOST_PICTURES:
            raise InvalidArgument(
                f"options: they ask for {pictures} pictures, the limit is {MOST_PICTURES}; take fewer steps or random "
                "orders",
                field="options",
            )
        height, width = predictor.view.shape(*size)
        held = changed_pictures(options, scenes=len(pool.scenes)) * height * width * 3
        if held > MOST_BYTES:
            raise InvalidArgument(
                f"options.scenes: the changed pictures have {held} bytes, the limit is {MOST_BYTES}; take fewer scenes",
                field="options.scenes",
            )
        if plan:
            caller.tell(pb.ReportedPlan(pictures=pictures, at_a_time=AT_A_TIME, patience=self._options.patience))
        evidence = audit_prediction(predictor, maps, image, claim, options, pool=pool)
        check(caller.given_up)
        audited = answers.Audited(request, size, predictor.view, options, request.method or requests.METHOD, surrogate)
        message = answers.answer(evidence, audited)
        if request.include_files:
            message.files.extend(further_files(evidence, options, message, request.contact))
        if not request.include_pictures:
            answers.clear_pictures(message)
        return message

    def _maps(
        self, task: Task, request: pb.AuditPredictionRequest, predictor: Predictor, caller: Caller
    ) -> tuple[Maps, str]:
        """Where the maps come from, and the name of a surrogate."""
        archive = task.surrogate or task.model
        if archive is None:
            if request.method:
                raise InvalidArgument(
                    f"method: {request.method!r:.80} needs a model to look into; name a surrogate, or no method",
                    field="method",
                )
            return AnswerMaps(predictor), ""
        loaded = self._models.get(archive, "surrogate" if task.surrogate else "model")
        stands_in = task.surrogate is not None
        maps = ModelMaps(
            loaded.model,
            predictor.labels,
            request.method or requests.METHOD,
            surrogate=stands_in,
            explainer=loaded.explainer,
        )
        return AskedMaps(maps, caller.given_up, self._turn), maps.told if stands_in else ""

    def _endpoint(self, name: str) -> Predictor:
        config: Any = self._options.endpoints.get(name)
        if config is None:
            raise FailedPrecondition(f"endpoint: {name!r:.80} is not known here", field="endpoint")
        with self._opening:
            if name not in self._endpoints:
                self._endpoints[name] = sources.open_source(config)
            return self._endpoints[name]
